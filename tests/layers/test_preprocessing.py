"""Preprocessing layers against TensorFlow."""

from __future__ import annotations

import numpy as np
from keras import layers as L
from oracle import Cases, sequential

CASES = Cases()
ran = CASES.fixture()


def adapted(shape, axis, **options):
    """A Normalization of moments that are not those of the rows compared."""
    layer = L.Normalization(axis=axis, **options)
    layer.adapt(np.random.default_rng(5).normal(2.0, 3.0, (40, *shape)).astype("float32"))
    return layer


for shape, axis in {
    (6,): -1,
    (3, 6): 2,
    (3, 4, 6): (1, 3),
    (3, 5): (2, 1),
    (4,): None,
    (2, 3): 1,
}.items():
    for invert in (False, True):
        CASES.add(
            f"normalization-adapted-{shape}-{axis}-{invert}",
            lambda s=shape, a=axis, i=invert: sequential(
                s, adapted(s, a, invert=i), L.Flatten(), L.Dense(2)
            ),
        )
for name, options in {
    "one": {"mean": 1.5, "variance": 4.0},
    "one-axis-none": {"axis": None, "mean": 0.5, "variance": 0.25},
    "each": {"mean": [1.0, -2.0, 0.5], "variance": [4.0, 0.0, 9.0]},
    "array": {"mean": np.array([1.0, 2.0, 3.0]), "variance": np.array([1.0, 0.5, 2.0])},
    "last_of_two": {"axis": (1, 2), "mean": [1.0, 0.0, 1.0], "variance": [1.0, 4.0, 9.0]},
    "both": {"axis": (1, 2), "mean": np.ones((4, 3)), "variance": np.full((4, 3), 2.0)},
    "invert": {"mean": 1.5, "variance": 4.0, "invert": True},
    "mixed": {"mean": 1.5, "variance": 4.0, "dtype": "mixed_float16"},
}.items():
    tolerance = {"tolerance": 2e-3} if name == "mixed" else {}
    CASES.add(
        f"normalization-{name}",
        lambda o=options: sequential((4, 3), L.Dense(3), L.Normalization(**o), L.Flatten()),
        **tolerance,
    )
for name, options in {
    "one": {"scale": 1 / 127.5, "offset": -1.0},
    "each": {"scale": [1.0, 2.0, 0.5], "offset": [0.0, 1.0, -1.0]},
    "no_offset": {"scale": 3},
}.items():
    CASES.add(
        f"rescaling-{name}",
        lambda o=options: sequential((4, 3), L.Dense(3), L.Rescaling(**o), L.Flatten()),
    )

test_layers = CASES.test()
