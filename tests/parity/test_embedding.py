"""Embeddings whose rows are looked up several times in a batch, with every optimizer of Keras.

Keras's optimizers square each look-up's gradient by itself (`tf.IndexedSlices`), which shows only
where ids repeat. A `loss_scale_factor` cannot be compared: Keras fails to divide such gradients.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from safetensors.numpy import load_file, save_file

STEPS = 20
BATCH = 16
IDS = 12
LENGTH = 5
LIMIT = 1e-4


def plain(ids: keras.KerasTensor) -> keras.KerasTensor:
    """One embedding, looked up once."""
    return layers.Embedding(IDS, 3)(ids)


def shared(ids: keras.KerasTensor) -> keras.KerasTensor:
    """One embedding, called twice."""
    embedding = layers.Embedding(IDS, 3)
    return layers.Concatenate()([embedding(ids), embedding(keras.ops.flip(ids, axis=1))])


def regularized(ids: keras.KerasTensor) -> keras.KerasTensor:
    """A regularizer reads the whole matrix."""
    return layers.Embedding(IDS, 3, embeddings_regularizer="l2")(ids)


def constrained(ids: keras.KerasTensor) -> keras.KerasTensor:
    """A constraint after each step."""
    return layers.Embedding(IDS, 3, embeddings_constraint="unit_norm")(ids)


def spectral(ids: keras.KerasTensor) -> keras.KerasTensor:
    """The matrix is assigned anew in each step."""
    return layers.SpectralNormalization(layers.Embedding(IDS, 3))(ids)


def masked(ids: keras.KerasTensor) -> keras.KerasTensor:
    """Padding goes through a layer with states."""
    states = layers.LSTM(4, return_sequences=True)
    return states(layers.Embedding(IDS, 3, mask_zero=True)(ids))


BUILDS = [plain, shared, regularized, constrained, spectral, masked]
OPTIMIZERS = {
    "Adadelta": lambda: optimizers.Adadelta(0.5),
    "Adafactor": lambda: optimizers.Adafactor(0.05),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adagrad clipnorm": lambda: optimizers.Adagrad(0.1, clipnorm=0.05),
    "Adam": lambda: optimizers.Adam(0.01),
    "Adam amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "Adam clipnorm": lambda: optimizers.Adam(0.01, clipnorm=0.05),
    "Adam clipvalue": lambda: optimizers.Adam(0.01, clipvalue=0.01),
    "Adam accumulated": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "Adam scaled": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01), initial_scale=8.0),
    "Adam scaled clipvalue": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.01, clipvalue=0.01), initial_scale=8.0
    ),
    "AdamW": lambda: optimizers.AdamW(0.01),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Adamax clipnorm": lambda: optimizers.Adamax(0.01, clipnorm=0.05),
    "Ftrl": lambda: optimizers.Ftrl(0.1, l2_shrinkage_regularization_strength=0.01),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Lion": lambda: optimizers.Lion(0.001),
    "Muon": lambda: optimizers.Muon(0.01),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "RMSprop": lambda: optimizers.RMSprop(0.01),
    "RMSprop centered": lambda: optimizers.RMSprop(0.01, centered=True, momentum=0.9),
    "SGD": lambda: optimizers.SGD(0.1),
    "SGD clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "SGD scaled": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=8.0),
    "SGD momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "SGD global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.05),
    "SGD average": lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=7),
}
CASES = [(build, "Adam") for build in BUILDS] + [(plain, name) for name in OPTIMIZERS]


def test_every_optimizer_is_here() -> None:
    """Left out are wrappers and the optimizer whose own `fit` does not follow its rule."""
    exported = {
        name
        for name, value in vars(optimizers).items()
        if isinstance(value, type) and issubclass(value, optimizers.Optimizer)
    }
    left_out = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "ScheduleFreeAdamW"}
    assert exported - left_out == {name.split()[0] for name in OPTIMIZERS}


@pytest.mark.parametrize(
    ("build", "optimizer"), CASES, ids=lambda case: getattr(case, "__name__", case)
)
def test_ids_that_repeat_train_as_in_keras(example, tmp_path: Path, build, optimizer: str) -> None:
    keras.utils.set_random_seed(5)
    ids = keras.Input((LENGTH,), dtype="int32")
    outputs = layers.Dense(2)(layers.Flatten()(build(ids)))
    model = keras.Model(ids, outputs)
    model.compile(OPTIMIZERS[optimizer](), "mse")
    model.save(tmp_path / "model.keras")
    (tmp_path / "compile.json").write_text(json.dumps(model.get_compile_config()))
    rng = np.random.default_rng(2)
    # Half of the ids of a batch are one and the same; the last row is never looked up.
    x = rng.integers(0, IDS - 1, (STEPS, BATCH, LENGTH)).astype(np.int32)
    x[rng.random(x.shape) < 0.5] = 3
    y = rng.normal(size=(STEPS, BATCH, 2)).astype(np.float32)
    tensors = {f"x_{step}": np.ascontiguousarray(x[step]) for step in range(STEPS)}
    tensors |= {f"y_{step}": np.ascontiguousarray(y[step]) for step in range(STEPS)}
    save_file(tensors, tmp_path / "batches.safetensors")

    example("replay", tmp_path)

    expected = []
    for step in range(STEPS):
        model.reset_metrics()
        expected.append(float(model.train_on_batch(x[step], y[step])))
    actual = json.loads((tmp_path / "losses.json").read_text())
    np.testing.assert_allclose(actual, expected, rtol=LIMIT)
    weights = load_file(tmp_path / "weights.safetensors")
    for weight in model.weights:
        near = [value for path, value in weights.items() if weight.path.endswith(path)]
        value = weight.numpy()
        distance = np.linalg.norm(near[0] - value) / max(np.linalg.norm(value), 1e-3)
        assert distance < LIMIT, f"{weight.path}: {distance}"
