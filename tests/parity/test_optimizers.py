"""Every optimizer rule and option moves variables and slots as Keras does, step by step."""

from __future__ import annotations

import json

import keras
import numpy as np
from keras import optimizers
from keras.optimizers import schedules
from safetensors.numpy import load_file, save_file

STEPS = 12


def optimizers_to_compare() -> list[keras.Optimizer]:
    """Each class plainly and with its options."""
    exponential = schedules.ExponentialDecay(0.1, decay_steps=4, decay_rate=0.5)
    stairs = schedules.ExponentialDecay(0.1, decay_steps=4, decay_rate=0.5, staircase=True)
    cosine = schedules.CosineDecay(0.1, decay_steps=8, alpha=0.1)
    warm = schedules.CosineDecay(0.01, decay_steps=6, warmup_target=0.1, warmup_steps=4)
    pieces = schedules.PiecewiseConstantDecay([3, 7], [0.1, 0.05, 0.01])
    return [
        optimizers.SGD(),
        optimizers.SGD(0.1, momentum=0.9),
        optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        optimizers.SGD(0.1, clipnorm=0.5),
        optimizers.SGD(0.1, global_clipnorm=0.5),
        optimizers.SGD(0.1, clipvalue=0.2, weight_decay=0.1),
        *(optimizers.SGD(rate) for rate in (exponential, stairs, cosine, warm, pieces)),
        optimizers.Adam(),
        optimizers.Adam(0.01, beta_1=0.8, beta_2=0.9, epsilon=1e-3, amsgrad=True),
        optimizers.Adam(schedules.CosineDecay(0.1, decay_steps=8), weight_decay=0.01),
        optimizers.AdamW(),
        optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0, amsgrad=True),
        optimizers.Adagrad(),
        optimizers.Adagrad(0.1, initial_accumulator_value=0.0, epsilon=1e-3, weight_decay=0.1),
        optimizers.RMSprop(),
        optimizers.RMSprop(0.01, momentum=0.9),
        optimizers.RMSprop(0.01, rho=0.8, centered=True, epsilon=1e-3),
        optimizers.RMSprop(0.01, momentum=0.5, centered=True, epsilon=1e-3, weight_decay=0.1),
    ]


def test_variables_and_slots_are_those_of_keras(example, tmp_path):
    rng = np.random.default_rng(3)
    shapes = {"kernel": (7, 5), "bias": (5,)}
    start = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    gradients = [
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(STEPS)
    ]
    tensors = dict(start)
    for step, gradient in enumerate(gradients):
        tensors |= {f"{name}_{step}": value for name, value in gradient.items()}
    save_file(tensors, tmp_path / "tensors.safetensors")
    compared = optimizers_to_compare()
    configs = [keras.saving.serialize_keras_object(optimizer) for optimizer in compared]
    (tmp_path / "cases.json").write_text(json.dumps(configs))

    example("optimize", tmp_path)

    results = load_file(tmp_path / "results.safetensors")
    for index, optimizer in enumerate(compared):
        variables = [keras.Variable(value, name=name) for name, value in start.items()]
        optimizer.build(variables)
        for gradient in gradients:
            optimizer.apply(list(gradient.values()))
        expected = {name: v.numpy() for name, v in zip(start, variables, strict=True)}
        expected |= {str(at): variable.numpy() for at, variable in enumerate(optimizer.variables)}
        actual = {
            name.removeprefix(f"{index}/"): value
            for name, value in results.items()
            if name.startswith(f"{index}/")
        }
        assert actual.keys() == expected.keys(), configs[index]
        for name, value in expected.items():
            what = f"{name} of {configs[index]}"
            close = {"rtol": 2e-5, "atol": 2e-6, "err_msg": what}
            np.testing.assert_allclose(actual[name], value, **close)
