"""Cases for the example `score`, and what Keras makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file, save_file

ROWS = 12
# Rows of each rank or batch; they come to ROWS, and some ranks have none.
PARTS = [[12], [5, 7], [0, 4, 8], [3, 1, 0, 8], [1, 11], [0, 12]]


@dataclass
class Case:
    """Outputs before their activation, labels, weights and mask, and what is asked of them."""

    config: Any
    x: np.ndarray
    y_true: np.ndarray
    activation: str | None = None
    weights: np.ndarray | None = None
    mask: np.ndarray | None = None
    parts: list[int] = field(default_factory=lambda: [ROWS])

    def __str__(self) -> str:
        shapes = {
            name: None if value is None else value.shape
            for name, value in [("weights", self.weights), ("mask", self.mask)]
        }
        return (
            f"{json.dumps(self.config)} of {self.activation} {self.x.dtype} {self.x.shape}, "
            f"labels {self.y_true.shape}, {shapes}, parts {self.parts}"
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Those that there are, by the names that the example takes."""
        mask = None if self.mask is None else self.mask.astype(np.uint8)
        named = {"x": self.x, "y_true": self.y_true, "weights": self.weights, "mask": mask}
        return {name: value for name, value in named.items() if value is not None}

    def output(self, x: tf.Tensor, rows: slice = slice(None)) -> tf.Tensor:
        """The output as a model would give it."""
        y = x if self.activation is None else keras.activations.get(self.activation)(x)
        if self.mask is not None:
            y = tf.identity(y) if self.activation is None else y
            keras.src.backend.set_keras_mask(y, tf.constant(self.mask[rows]))
        return y


@dataclass
class Score:
    """What the example says of a case."""

    result: dict
    tensors: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        assert "error" not in self.result, self.result["error"]
        return self.tensors[name]


def run(example, folder: Path, cases: list[dict]) -> list[Score]:
    """The scores of cases, each settings with its `tensors`."""
    tensors = {
        f"{index}/{name}": np.ascontiguousarray(value)
        for index, case in enumerate(cases)
        for name, value in case["tensors"].items()
    }
    save_file(tensors, folder / "tensors.safetensors")
    settings = [{k: v for k, v in case.items() if k != "tensors"} for case in cases]
    (folder / "cases.json").write_text(json.dumps(settings))
    example("score", folder)
    results = json.loads((folder / "results.json").read_text())
    scores = [Score(result, {}) for result in results]
    for name, value in load_file(folder / "scores.safetensors").items():
        index, name = name.split("/", 1)
        scores[int(index)].tensors[name] = value
    return scores


def ask(kind: str, case: Case) -> dict:
    """A case of one output as the example takes it."""
    settings = {"kind": kind, "config": case.config, "activation": case.activation}
    return {**settings, "parts": case.parts, "tensors": case.tensors()}


def keras_object(module: str, name: str, /, **config) -> dict:
    """An object as Keras serializes it."""
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def loss_object(name: str, /, **config) -> dict:
    """A loss as Keras serializes it."""
    return keras_object("keras.losses", name, **config)


def metric_object(name: str, /, **config) -> dict:
    """A metric as Keras serializes it."""
    return keras_object("keras.metrics", name, **config)


def function(name: str) -> dict:
    """A function as Keras serializes it."""
    return {
        "module": "builtins",
        "class_name": "function",
        "config": name,
        "registered_name": "function",
    }


def from_config(config: Any) -> Any:
    """What `compile` is given when Keras loads a compiled model."""
    return keras.saving.deserialize_keras_object(config)


def close(
    actual: np.ndarray, expected: np.ndarray, tolerance: float, what: str, least: float = 1e-2
) -> None:
    """Every element within `tolerance` of the greatest one, or of `least` if that is more; NaN and
    infinities in the same places.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    atol = tolerance * max(finite.max(initial=0.0), least)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=atol, err_msg=what)
