"""Twenty steps from the same weights on the same real batches give Keras's losses and weights."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import load_file, save_file

STEPS = 20
BATCH = 64


def mlp() -> keras.Model:
    """Two Dense layers on flat, scaled images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cnn() -> keras.Model:
    """The usual first convolutional network for such images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def normalized() -> keras.Model:
    """A convolution with BatchNormalization and a Dropout that drops nothing.

    The convolution has no bias: its gradient before a BatchNormalization is rounding noise alone.
    """
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dropout(0.0),
            layers.Dense(10, activation="softmax"),
        ]
    )


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(),
}


def by_path(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights by layer and variable, as `conv2d/kernel`."""
    return {"/".join(w.path.split("/")[-2:]): w.numpy() for w in model.weights}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("build", [mlp, cnn, normalized])
def test_losses_and_weights_follow_keras(example, images, tmp_path: Path, build, optimizer):
    keras.utils.set_random_seed(7)
    model = build()
    model.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    (tmp_path / "compile.json").write_text(json.dumps(model.get_compile_config()))
    x, y = images
    starts = range(0, STEPS * BATCH, BATCH)
    batches = [(x[at : at + BATCH], y[at : at + BATCH]) for at in starts]
    tensors = {f"x_{i}": np.ascontiguousarray(x) for i, (x, _) in enumerate(batches)}
    tensors |= {f"y_{i}": np.ascontiguousarray(y) for i, (_, y) in enumerate(batches)}
    save_file(tensors, tmp_path / "batches.safetensors")

    example("replay", tmp_path)

    # The mean that train_on_batch returns runs over all steps so far: reset it for each.
    expected = []
    for x, y in batches:
        model.reset_metrics()
        expected.append(float(model.train_on_batch(x.astype(np.float32), y)))
    losses = json.loads((tmp_path / "losses.json").read_text())
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert losses[-1] < losses[0]

    actual = load_file(tmp_path / "weights.safetensors")
    weights = by_path(model)
    assert actual.keys() == weights.keys()
    for path, weight in weights.items():
        distance = np.linalg.norm(actual[path] - weight) / np.linalg.norm(weight)
        assert distance < 1e-3, f"{path}: {distance}"
