"""Losses per row, their gradients, and metrics are Keras's, also on outputs that fit them badly."""

from __future__ import annotations

import json
from itertools import product

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.compile_utils import get_loss, get_metric
from safetensors.numpy import load_file, save_file

RNG = np.random.default_rng(11)
ROWS = 12


def outputs(activation: str | None, *shape: int) -> list[np.ndarray]:
    """Values before the activation: scores, extreme scores, and things like probabilities.

    Without an activation there are ties too. Behind one, rounding decides whether equal inputs give
    equal outputs; so nothing there is equal, nor so extreme that it saturates.
    """
    normal = RNG.normal(size=(ROWS, *shape))
    positive = RNG.uniform(0, 0.7, size=(ROWS, *shape))
    kinds = [normal, normal * 5, positive]
    if activation is None:
        kinds += [normal * 60, (positive > 0.3) * 1.0]
    return [values.astype(np.float32) for values in kinds]


def case(activation, loss, metrics, x, y_true) -> dict:
    """One comparison."""
    return {"activation": activation, "loss": loss, "metrics": metrics, "x": x, "y_true": y_true}


def loss_object(name: str, **config) -> dict:
    """A loss as Keras serializes it."""
    return {"module": "keras.losses", "class_name": name, "config": config, "registered_name": None}


def metric_object(name: str, **config) -> dict:
    """A metric as Keras serializes it."""
    object_ = {"module": "keras.metrics", "class_name": name, "config": config}
    return {**object_, "registered_name": None}


ACTIVATIONS = [None, "softmax", "sigmoid"]


def sparse_cases() -> list[dict]:
    """Class ids, for plain and for sequence outputs."""
    name = "sparse_categorical_crossentropy"
    losses = [name, loss_object("SparseCategoricalCrossentropy", from_logits=True)]
    top = metric_object("SparseTopKCategoricalAccuracy", k=2)
    metrics = ["accuracy", "sparse_categorical_accuracy", top, name]
    return [
        case(activation, loss, metrics, x, RNG.integers(0, shape[-1], (ROWS, *shape[:-1])))
        for activation, loss, shape in product(ACTIVATIONS, losses, [(5,), (3, 4)])
        for x in outputs(activation, *shape)
    ]


def value_cases() -> list[dict]:
    """One-hot labels, shares that do not sum to 1, and several independent classes."""
    losses = [
        "categorical_crossentropy",
        loss_object("CategoricalCrossentropy", from_logits=True, label_smoothing=0.1),
        loss_object("CategoricalCrossentropy", label_smoothing=0.2),
        "binary_crossentropy",
        loss_object("BinaryCrossentropy", from_logits=True, label_smoothing=0.1),
        "mse",
        "mean_absolute_error",
    ]
    metrics = [
        "acc",
        "categorical_accuracy",
        metric_object("BinaryAccuracy", threshold=0.3),
        "mse",
        "mae",
        "binary_crossentropy",
        "categorical_crossentropy",
    ]
    one_hot = np.eye(4, dtype=np.float32)[RNG.integers(0, 4, ROWS)]
    many = RNG.integers(0, 2, (ROWS, 4)).astype(np.float32)
    return [
        case(activation, loss, metrics, x, y_true)
        for activation, loss, y_true in product(ACTIVATIONS, losses, [one_hot, many])
        for x in outputs(activation, 4)
    ]


def width_one_cases() -> list[dict]:
    """A single output, on which "accuracy" is binary."""
    metrics = ["accuracy", "binary_accuracy", "mse"]
    labels = RNG.integers(0, 2, (ROWS, 1)).astype(np.float32)
    return [
        case(activation, loss, metrics, x, labels)
        for activation, loss in product([None, "sigmoid"], ["bce", "mse"])
        for x in outputs(activation, 1)
    ]


def score_in_keras(case: dict) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Losses by rows, the gradient of their mean, and the metrics' results."""
    x, y_true = tf.constant(case["x"]), tf.constant(case["y_true"])
    loss = get_loss(case["loss"], y_true, x)
    metrics = [get_metric(metric, y_true, x) for metric in case["metrics"]]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.activations.get(case["activation"])(x)
        mean = loss(y_true, y)
    rows = loss.call(tf.cast(y_true, tf.float32), y).numpy().reshape(ROWS, -1).mean(axis=1)
    for metric in metrics:
        metric.update_state(y_true, y)
    results = [float(metric.result()) for metric in metrics]
    return rows, tape.gradient(mean, x).numpy(), results


def test_losses_gradients_and_metrics_are_those_of_keras(example, tmp_path):
    cases = [*sparse_cases(), *value_cases(), *width_one_cases()]
    tensors = {}
    for index, each in enumerate(cases):
        tensors[f"{index}/x"], tensors[f"{index}/y_true"] = each["x"], each["y_true"]
    save_file(tensors, tmp_path / "tensors.safetensors")
    settings = [{key: each[key] for key in ("activation", "loss", "metrics")} for each in cases]
    (tmp_path / "cases.json").write_text(json.dumps(settings))

    example("score", tmp_path)

    scores = load_file(tmp_path / "scores.safetensors")
    for index, each in enumerate(cases):
        losses, gradient, metrics = score_in_keras(each)
        what = f"case {index}: {settings[index]}"
        close = {"rtol": 1e-4, "atol": 1e-6, "err_msg": what}
        np.testing.assert_allclose(scores[f"{index}/losses"], losses, **close)
        np.testing.assert_allclose(scores[f"{index}/gradient"], gradient, **close)
        np.testing.assert_allclose(scores[f"{index}/metrics"], metrics, **close)
