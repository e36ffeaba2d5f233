"""Cases of single operations of `keras.ops`: functional models whose outputs are its variants."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from oracle import HELD_IN, Cases, Ran, check, results_of

FLOAT = ((3, 4), "float32")


def functional(call: Callable, *specs: tuple) -> keras.Model:
    """A model of inputs of `(shape, dtype)` whose outputs are what `call` makes of them."""
    inputs = [keras.Input(shape, dtype=dtype) for shape, dtype in specs]
    return keras.Model(inputs, call(*inputs))


class OperationCases(Cases):
    """Cases that compare dtypes too."""

    def op(self, name: str, call: Callable, *specs: tuple, **options) -> None:
        """Add the case of an operation on inputs of `specs`."""
        self.add(name, lambda: functional(call, *(specs or (FLOAT,))), **options)

    def test(self):
        """A test of every case."""

        @pytest.mark.parametrize("name", self.chosen())
        def test(ran: dict[str, Ran], name: str) -> None:
            if isinstance(ran[name], Exception):
                raise ran[name]
            check(ran[name])
            actual = results_of(ran[name])
            for key, expected in ran[name].expected.items():
                wanted = str(expected.dtype)
                assert str(actual[key].dtype) == HELD_IN.get(wanted, wanted), key

        return test


def within(low: float, high: float, *, seed: int = 3) -> Callable:
    """Inputs that lie between two bounds."""

    def make(model: keras.Model) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        shapes = [(5, *spec.shape[1:]) for spec in model.inputs]
        return [rng.uniform(low, high, shape).astype("float32") for shape in shapes]

    return make


def with_ties(model: keras.Model) -> list[np.ndarray]:
    """Inputs with many equal elements, among them zeros."""
    rng = np.random.default_rng(4)
    shapes = [
        (5, *[4 if size is None else size for size in spec.shape[1:]]) for spec in model.inputs
    ]
    return [np.round(rng.normal(size=shape) * 1.5).astype("float32") / 2 for shape in shapes]


def with_specials(model: keras.Model) -> list[np.ndarray]:
    """Inputs with NaN, infinities and zeros of both signs among them."""
    inputs = with_ties(model)
    for x in inputs:
        flat = x.reshape(-1)
        flat[:6] = [np.nan, np.inf, -np.inf, 0.0, -0.0, np.nan]
        np.random.default_rng(6).shuffle(flat)
    return inputs
