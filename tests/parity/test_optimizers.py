"""Every optimizer class with every option moves variables and state as Keras does, step by step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import optimizers
from keras.optimizers import schedules
from safetensors.numpy import load_file, save_file

STEPS = 30
# A matrix's Newton and Schulz iteration amplifies rounding.
RELATIVE = {"Muon": 1e-4}

PATHS = {
    "wide/kernel": (5, 11),
    "wide/bias": (11,),
    "tall/kernel": (12, 4),
    "embedding/embeddings": (6, 5),
    "conv/kernel": (3, 2, 4, 3),
    "scale/scalar": (),
    "query/kernel": (2, 3, 4),
}
COSINE = schedules.CosineDecay(0.02, decay_steps=20, warmup_target=0.05, warmup_steps=6)
STAIRS = schedules.ExponentialDecay(0.05, decay_steps=7, decay_rate=0.6, staircase=True)


@dataclass
class Case:
    """An optimizer and the steps it takes."""

    optimizer: keras.Optimizer
    steps: list[int] = field(default_factory=lambda: list(range(STEPS)))
    sparse: bool = False
    threads: int = 1
    factor: float = 1.0

    def reached(self, step: int) -> list[bool]:
        """Which variables have a gradient; the last one never has one where some have none."""
        if not self.sparse:
            return [True] * len(PATHS)
        some = [(3 * step + 2 * index) % 7 < 5 for index in range(len(PATHS))]
        return [*some[:-1], False]

    def inner(self) -> keras.Optimizer:
        """The optimizer without loss scaling around it."""
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)


CLASSES = {
    optimizers.SGD: [
        {},
        {"momentum": 0.9},
        {"momentum": 0.8, "nesterov": True},
        {"learning_rate": COSINE},
        {"learning_rate": STAIRS, "momentum": 0.5},
    ],
    optimizers.RMSprop: [
        {},
        {"rho": 0.7, "momentum": 0.6},
        {"centered": True, "epsilon": 1e-3},
        {"centered": True, "momentum": 0.5, "epsilon": 1e-3},
    ],
    optimizers.Adam: [
        {},
        {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
        {"amsgrad": True},
        {"learning_rate": COSINE, "amsgrad": True},
    ],
    optimizers.AdamW: [{}, {"weight_decay": 0.1, "amsgrad": True}, {"weight_decay": 0.0}],
    optimizers.Adadelta: [{}, {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-4}],
    optimizers.Adagrad: [{}, {"initial_accumulator_value": 0.0, "epsilon": 1e-3}],
    optimizers.Adamax: [{}, {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-2}],
    optimizers.Adafactor: [
        {},
        {"relative_step": False, "clip_threshold": 0.3},
        {"beta_2_decay": -0.5, "epsilon_1": 1e-3, "epsilon_2": 0.1, "learning_rate": COSINE},
    ],
    optimizers.Nadam: [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    optimizers.Ftrl: [
        {},
        {
            "l1_regularization_strength": 0.05,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.2,
            "beta": 0.3,
        },
        {"learning_rate_power": -0.7, "initial_accumulator_value": 0.5},
        {"learning_rate_power": 0.0},
    ],
    optimizers.Lion: [{}, {"beta_1": 0.6, "beta_2": 0.7}],
    optimizers.Lamb: [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    optimizers.Muon: [
        {},
        {"nesterov": False, "momentum": 0.8, "rms_rate": None, "adam_weight_decay": None},
        {"exclude_layers": ["^tall", "q.*y"], "exclude_embeddings": False, "weight_decay": None},
        {"ns_steps": 2, "muon_a": 3.0, "muon_b": -4.0, "muon_c": 2.0, "adam_lr_ratio": 0.3},
    ],
    optimizers.ScheduleFreeAdamW: [{}, {"warmup_steps": 10, "beta_1": 0.7, "epsilon": 1e-3}],
}
OPTIONS = [
    {"weight_decay": 0.05},
    {"clipnorm": 0.7},
    {"global_clipnorm": 1.5},
    {"clipvalue": 0.3},
    {"use_ema": True, "ema_momentum": 0.8},
    {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 4},
    {"gradient_accumulation_steps": 4},
    {"loss_scale_factor": 3.0, "global_clipnorm": 0.0},
    {"gradient_accumulation_steps": 3, "clipnorm": 0.5, "weight_decay": 0.02},
    {
        "gradient_accumulation_steps": 2,
        "global_clipnorm": 2.0,
        "use_ema": True,
        "ema_overwrite_frequency": 3,
        "loss_scale_factor": 128.0,
        "weight_decay": 0.01,
    },
]


def cases() -> list[Case]:
    """Each class with its own options, with those of all, and inside loss scaling."""
    found = []
    for index, (kind, settings) in enumerate(CLASSES.items()):
        rate = {"learning_rate": 0.02}
        found += [Case(kind(**setting), sparse=True) for setting in settings]
        for at, options in enumerate(OPTIONS):
            own = settings[at % len(settings)]
            case = Case(kind(**{**rate, **own, **options}), sparse=at % 2 == 1, threads=1 + at % 3)
            found.append(case)
        inner = kind(**rate, **(OPTIONS[index % len(OPTIONS)] | {"loss_scale_factor": None}))
        scaled = optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
        found.append(Case(scaled, sparse=index % 2 == 0))
    found.append(Case(optimizers.Adam(0.02, clipnorm=0.5), factor=0.25))
    found.append(Case(optimizers.Lamb(0.02, gradient_accumulation_steps=2), factor=0.25))
    return found


def first_values() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.normal(size=shape).astype(np.float32) for shape in PATHS.values()]


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + step)
    scale = np.float32(10.0 ** (step % 3 - 1))
    return [scale * rng.normal(size=shape).astype(np.float32) for shape in PATHS.values()]


def keras_variables(values: list[np.ndarray]) -> list[keras.Variable]:
    """Variables with the paths that layers would give them."""
    variables = []
    for path, value in zip(PATHS, values, strict=True):
        layer, name = path.split("/")
        with keras.name_scope(layer):
            variables.append(keras.Variable(value, name=name))
        assert variables[-1].path == path
    return variables


def run_keras(case: Case, variables: list[keras.Variable], steps: list[int]) -> None:
    for step in steps:
        present = zip(gradients(step), case.reached(step), strict=True)
        factor = np.float32(case.factor)
        given = [factor * gradient if reached else None for gradient, reached in present]
        case.optimizer.apply(given, variables)


def write(folder: Path, written: list[dict], tensors: dict[str, np.ndarray]) -> None:
    for index, value in enumerate(first_values()):
        tensors[str(index)] = value
    for step in range(STEPS):
        for index, value in enumerate(gradients(step)):
            tensors[f"gradient/{step}/{index}"] = value
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    save_file(tensors, folder / "tensors.safetensors")
    document = {"variables": list(PATHS), "cases": written}
    (folder / "cases.json").write_text(json.dumps(document))


def description(case: Case, steps: list[int], **more: object) -> dict:
    return {
        "optimizer": keras.saving.serialize_keras_object(case.optimizer),
        "steps": steps,
        "reached": [case.reached(step) for step in steps],
        "threads": case.threads,
        "factor": case.factor,
        **more,
    }


def assert_near(actual: dict, prefix: str, expected: list[np.ndarray], case: Case) -> None:
    """Each array differs by little of its own greatest value."""
    relative = RELATIVE.get(type(case.inner()).__name__, 1e-5)
    for index, value in enumerate(expected):
        found = actual[f"{prefix}/{index}"]
        what = f"{prefix}/{index} of {keras.saving.serialize_keras_object(case.optimizer)}"
        assert (found.shape, found.dtype) == (value.shape, value.dtype), what
        limit = relative * np.abs(value).max(initial=1e-30)
        np.testing.assert_allclose(found, value, rtol=0, atol=limit, err_msg=what)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    """Keras warns at each step in which a variable has no gradient."""
    import warnings

    warnings.filterwarnings("ignore", message="Gradients do not exist")


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_and_state_are_those_of_keras(example, tmp_path):
    compared = cases()
    record = [0, 1, 8, STEPS - 1]
    write(tmp_path, [description(case, case.steps, record=record) for case in compared], {})

    example("optimize", tmp_path)

    results = load_file(tmp_path / "results.safetensors")
    configs = json.loads((tmp_path / "configs.json").read_text())
    for index, case in enumerate(compared):
        variables = keras_variables(first_values())
        case.optimizer.build(variables)
        assert configs[index] == keras.saving.serialize_keras_object(case.optimizer)
        done = 0
        for last in record:
            run_keras(case, variables, case.steps[done : last + 1])
            done = last + 1
            values = [variable.numpy() for variable in variables]
            assert_near(results, f"{index}/{last}", values, case)
            state = [np.asarray(variable.numpy()) for variable in case.optimizer.variables]
            assert_near(results, f"{index}/{last}/optimizer", state, case)
            assert f"{index}/{last}/optimizer/{len(state)}" not in results
        case.optimizer.finalize_variable_values(variables)
        final = [variable.numpy() for variable in variables]
        assert_near(results, f"{index}/final", final, case)
