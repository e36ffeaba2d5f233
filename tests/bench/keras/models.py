"""The six models that are timed, in Keras, with what they are given."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
from keras import layers as L


@dataclass(frozen=True)
class Timed:
    """A model, the rows of a training step, how many steps are timed, and what is predicted."""

    make: Callable[[], keras.Model]
    loss: str
    batch: int
    steps: int
    predicted: int
    # Rows in a batch of a peer's prediction.
    predict_batch: int


def mnist_cnn() -> keras.Model:
    """The CNN of the main job."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Rescaling(1 / 255),
            L.Conv2D(32, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(64, activation="relu"),
            L.Dense(10, activation="softmax"),
        ]
    )


def lstm() -> keras.Model:
    """A classifier of sequences."""
    return keras.Sequential(
        [keras.Input((100, 32)), L.LSTM(128), L.Dense(10, activation="softmax")]
    )


def transformer() -> keras.Model:
    """One encoder block, its outputs averaged."""
    inputs = keras.Input((128, 128))
    attended = L.MultiHeadAttention(4, 32)(inputs, inputs)
    x = L.LayerNormalization(epsilon=1e-5)(L.Add()([inputs, attended]))
    hidden = L.Dense(128)(L.Dense(512, activation="relu")(x))
    x = L.LayerNormalization(epsilon=1e-5)(L.Add()([x, hidden]))
    outputs = L.Dense(10, activation="softmax")(L.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs)


def embedding_mlp() -> keras.Model:
    """A click model: 20 ids a row, of 100,000."""
    return keras.Sequential(
        [
            keras.Input((20,), dtype="int32"),
            L.Embedding(100_000, 16),
            L.Flatten(),
            L.Dense(256, activation="relu"),
            L.Dense(128, activation="relu"),
            L.Dense(1, activation="sigmoid"),
        ]
    )


CLASSES = "sparse_categorical_crossentropy"
MODELS = {
    "mnist_cnn": Timed(mnist_cnn, CLASSES, 64, 300, 20_000, 1000),
    "resnet50": Timed(lambda: keras.applications.ResNet50(weights=None), CLASSES, 16, 3, 64, 32),
    "mobilenet_v2": Timed(
        lambda: keras.applications.MobileNetV2(weights=None), CLASSES, 16, 8, 128, 32
    ),
    "lstm": Timed(lstm, CLASSES, 64, 60, 4_000, 500),
    "transformer": Timed(transformer, CLASSES, 32, 40, 2_000, 100),
    "embedding_mlp": Timed(embedding_mlp, "binary_crossentropy", 256, 100, 100_000, 1000),
}


def data(model: keras.Model, timed: Timed, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and labels."""
    rng = np.random.default_rng(0)
    spec = model.inputs[0]
    shape = (rows, *spec.shape[1:])
    if spec.dtype == "int32":
        x = rng.integers(0, 100_000, shape).astype("int32")
    else:
        x = rng.random(shape, "float32")
    if timed.loss == CLASSES:
        return x, rng.integers(0, model.outputs[0].shape[-1], rows)
    return x, rng.integers(0, 2, (rows, 1)).astype("float32")
