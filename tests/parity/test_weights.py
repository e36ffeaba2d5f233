"""Constraints, regularizers and initializers do to weights what they do in Keras."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import constraints, initializers, regularizers
from safetensors.numpy import load_file, save_file

SHAPES = [(4,), (1, 1), (5, 3), (3, 5), (2, 3, 4), (3, 2, 4, 2), (2, 2, 3, 2, 2)]
SERIALIZE = keras.saving.serialize_keras_object


@dataclass
class Case:
    """One of Keras's objects, or the config it is read from, on one value."""

    kind: str
    config: object
    value: np.ndarray

    def expected(self) -> list[np.ndarray]:
        """What Keras makes of the value: for a regularizer also the gradient."""
        if self.kind == "initializer":
            made = initializers.get(self.config)(self.value.shape, dtype="float32")
            return [np.asarray(made)]
        if self.kind == "constraint":
            return [np.asarray(constraints.get(self.config)(tf.constant(self.value)))]
        value = tf.Variable(self.value)
        with tf.GradientTape() as tape:
            loss = regularizers.get(self.config)(value)
        gradient = tape.gradient(loss, value, unconnected_gradients="zero")
        return [np.asarray(loss), np.asarray(gradient)]


def values(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Ordinary values; tiny ones; and some with zeros, also throughout the first of each axis."""
    rng = np.random.default_rng(len(shape))
    plain = rng.normal(size=shape)
    some = np.where(rng.random(shape) < 0.4, 0.0, plain)
    for axis in range(len(shape)):
        np.moveaxis(some, axis, 0)[0] = 0
    return [np.asarray(value, np.float32) for value in (plain, 1e-6 * plain, some)]


def constraint_cases() -> list[Case]:
    found: list[Case] = []
    for shape in SHAPES:
        axes = [0, -1, list(range(len(shape))), list(range(len(shape) - 1)), None]
        objects = [constraints.NonNeg(), "non_neg", "MaxNorm", "unit_norm", "MinMaxNorm"]
        for axis in axes:
            objects += [
                constraints.MaxNorm(0.9, axis=axis),
                constraints.MaxNorm(3, axis=axis),
                constraints.UnitNorm(axis=axis),
                constraints.MinMaxNorm(0.5, 1.5, axis=axis),
                constraints.MinMaxNorm(2, 4, rate=0.3, axis=axis),
                constraints.MinMaxNorm(2.0, 1.0, rate=0.0, axis=axis),
            ]
        configs = [entry if isinstance(entry, str) else SERIALIZE(entry) for entry in objects]
        found += [
            Case("constraint", config, value) for config in configs for value in values(shape)
        ]
    return found


def regularizer_cases() -> list[Case]:
    found: list[Case] = []
    for shape in [(), *SHAPES]:
        objects = [
            "l1",
            "l2",
            "L1L2",
            regularizers.L1(0.3),
            regularizers.L2(2),
            regularizers.L1L2(l1=0.1),
            regularizers.L1L2(l2=0.2),
            regularizers.L1L2(0.1, 0.7),
        ]
        if len(shape) == 2 and shape != (1, 1):
            objects += [
                "orthogonal_regularizer",
                regularizers.OrthogonalRegularizer(0.5, mode="rows"),
                regularizers.OrthogonalRegularizer(2.0, mode="columns"),
            ]
        configs = [entry if isinstance(entry, str) else SERIALIZE(entry) for entry in objects]
        configs += [{"class_name": "L2", "config": {"l2": None}}]
        kinds = values(shape)
        found += [Case("regularizer", config, value) for config in configs for value in kinds]
    infinite = np.array([1.0, np.inf, -2.0], np.float32)
    found += [Case("regularizer", SERIALIZE(regularizers.L1L2(l2=0.2)), infinite)]
    return found


def initializer_cases() -> list[Case]:
    """Those that are not random."""
    objects = [
        ("zeros", (3, 2)),
        ("one", ()),
        (initializers.Ones(), (2, 1, 3)),
        (initializers.Constant(0.1), (2, 2)),
        (initializers.Constant([1.5, -2.0, 3.0]), (2, 3)),
        (initializers.Constant([[1], [2]]), (4, 2, 3)),
        (initializers.Constant(np.arange(6.0).reshape(2, 3) / 7), (2, 3)),
        ("identity", (3, 5)),
        (initializers.Identity(), (4, 2)),
        ({"class_name": "Identity", "config": {"gain": 0.7}}, (3, 3)),
    ]
    found = []
    for entry, shape in objects:
        config = entry if isinstance(entry, (str, dict)) else SERIALIZE(entry)
        found.append(Case("initializer", config, np.zeros(shape, np.float32)))
    return found


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [*constraint_cases(), *regularizer_cases(), *initializer_cases()]


@pytest.fixture(scope="module")
def results(example, cases, tmp_path_factory) -> dict[str, np.ndarray]:
    folder: Path = tmp_path_factory.mktemp("weights")
    written = [{case.kind: case.config, "shape": case.value.shape} for case in cases]
    (folder / "cases.json").write_text(json.dumps(written))
    tensors = {str(index): case.value for index, case in enumerate(cases)}
    save_file(tensors, folder / "tensors.safetensors")
    example("weights", folder)
    return load_file(folder / "results.safetensors")


@pytest.mark.parametrize("kind", ["constraint", "regularizer", "initializer"])
def test_weights_are_treated_as_in_keras(cases, results, kind):
    compared = [(index, case) for index, case in enumerate(cases) if case.kind == kind]
    assert compared
    for index, case in compared:
        for name, expected in zip(("", "/gradient"), case.expected(), strict=False):
            found = results[f"{index}{name}"]
            what = f"{case.config} on {case.value.tolist()}{name}"
            assert found.shape == expected.shape, what
            finite = np.abs(expected[np.isfinite(expected)])
            limit = 1e-6 * finite.max(initial=1e-30)
            np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=what)
