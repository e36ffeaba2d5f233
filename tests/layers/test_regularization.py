"""Regularization layers against TensorFlow; what is random is tested with the layers in Rust."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L
from oracle import Cases, sequential
from refusal import Refusals, change

CASES = Cases()
ran = CASES.fixture()
REFUSALS = Refusals()
messages = REFUSALS.fixture()

RANDOM = {
    "dropout": ((3, 6), lambda: L.Dropout(0.4)),
    "dropout_seed": ((3, 6), lambda: L.Dropout(0.4, seed=3)),
    "dropout_noise_shape": ((3, 6), lambda: L.Dropout(0.4, noise_shape=(None, 1, None))),
    "dropout_noise_shape_of_sizes": ((3, 6), lambda: L.Dropout(0.4, noise_shape=(1, 3, 1))),
    "dropout_short_noise_shape": ((3, 6), lambda: L.Dropout(0.4, noise_shape=(1, 6))),
    "dropout_unknown_axis": ((None, 6), lambda: L.Dropout(0.4, noise_shape=(None, 1, 6))),
    "spatial_1d": ((3, 6), lambda: L.SpatialDropout1D(0.4)),
    "spatial_2d": ((3, 2, 6), lambda: L.SpatialDropout2D(0.4)),
    "spatial_2d_first": ((3, 2, 6), lambda: L.SpatialDropout2D(0.4, "channels_first", seed=1)),
    "spatial_3d": ((3, 2, 2, 6), lambda: L.SpatialDropout3D(0.4)),
    "spatial_3d_first": ((3, 2, 2, 6), lambda: L.SpatialDropout3D(0.4, "channels_first")),
    "gaussian_noise": ((3, 6), lambda: L.GaussianNoise(0.7)),
    "gaussian_noise_seed": ((3, 6), lambda: L.GaussianNoise(1.0, seed=4)),
    "gaussian_dropout": ((3, 6), lambda: L.GaussianDropout(0.7, seed=2)),
    "alpha_dropout": ((3, 6), lambda: L.AlphaDropout(0.3)),
    "alpha_dropout_noise_shape": ((3, 6), lambda: L.AlphaDropout(0.3, (None, 1, None), 5)),
}
for name, (shape, make) in RANDOM.items():
    CASES.add(f"random-{name}", lambda s=shape, m=make: sequential(s, L.Dense(6), m()), random=True)
for name, make in {
    "dropout": lambda: L.Dropout(0.4, dtype="mixed_float16"),
    "noise": lambda: L.GaussianNoise(0.4, dtype="mixed_float16"),
    "gaussian": lambda: L.GaussianDropout(0.4, dtype="mixed_float16"),
    "alpha": lambda: L.AlphaDropout(0.4, dtype="mixed_float16"),
}.items():
    CASES.add(
        f"random-mixed-{name}", lambda m=make: sequential((3, 6), m()), random=True, tolerance=2e-3
    )

# At rate 0 training is no different.
INERT = {
    "dropout": lambda: L.Dropout(0.0),
    "spatial": lambda: L.SpatialDropout1D(0.0),
    "noise": lambda: L.GaussianNoise(0.0),
    "gaussian": lambda: L.GaussianDropout(0.0),
    "alpha": lambda: L.AlphaDropout(0.0),
}
for name, make in INERT.items():
    CASES.add(f"inert-{name}", lambda m=make: sequential((3, 6), L.Dense(6), m(), L.Dense(2)))
CASES.add("dropout-everything", lambda: sequential((3, 6), L.Dense(6), L.Dropout(1.0), L.Dense(2)))
CASES.add(
    "spatial-everything",
    lambda: sequential((3, 6), L.Dense(6), L.SpatialDropout1D(1.0), L.Dense(2)),
)


def told_not_to_train() -> keras.Model:
    """Every random layer, called for inference."""
    x = keras.Input((3, 6))
    y = L.Dense(6)(x)
    for layer in [
        L.Dropout(0.5), L.SpatialDropout1D(0.5), L.GaussianNoise(0.5), L.GaussianDropout(0.5),
        L.AlphaDropout(0.5),
    ]:  # fmt: skip
        y = layer(y, training=False)
    return keras.Model(x, L.Dense(2)(y))


# A recorded `training` is overridden by the mode of `fit` (`operation_fn` in functional.py).
CASES.add("told_not_to_train", told_not_to_train, random=True)


def padded(_: keras.Model) -> list[np.ndarray]:
    """Sequences that end early."""
    x = np.random.default_rng(4).uniform(-2, 2, (5, 4, 6)).astype("float32")
    for row in range(4):
        x[row, 1 + row :] = 0
    return [x]


CASES.add(
    "masks_stay",
    lambda: sequential(
        (4, 6), L.Masking(), L.Dropout(0.0), L.SpatialDropout1D(0.0), L.GaussianNoise(0.0),
        L.GaussianDropout(0.0), L.AlphaDropout(0.0), L.ActivityRegularization(0.1, 0.2),
    ),
    inputs=padded,
)  # fmt: skip

for l1, l2 in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.2), (0.3, 0.05)]:
    for shape in [(6,), (3, 6), (None, 2, 6)]:
        CASES.add(
            f"activity-{l1}-{l2}-{shape}",
            lambda a=l1, b=l2, s=shape: sequential(
                s, L.Dense(5), L.ActivityRegularization(a, b), L.Dense(2)
            ),
        )
CASES.add(
    "activity-integers",
    lambda: sequential((6,), L.ActivityRegularization(0.3, 0.2), L.Dense(2), dtype="int32"),
)
CASES.add(
    "activity-mixed_float16",
    lambda: sequential(
        (3, 6), L.Dense(5, dtype="mixed_float16"),
        L.ActivityRegularization(0.3, 0.2, dtype="mixed_float16"), L.Dense(2),
    ),
    tolerance=5e-3,
)  # fmt: skip


def shared_penalty() -> keras.Model:
    """Every call adds its loss."""
    a, b = keras.Input((6,)), keras.Input((4, 2))
    penalty = L.ActivityRegularization(0.1, 0.2)
    return keras.Model([a, b], [penalty(L.Dense(3)(penalty(a))), penalty(b)])


CASES.add("activity-shared", shared_penalty)

for name, make, option, value in [
    ("Dropout", lambda: L.Dropout(0.4, name="r"), "rate", 1.5),
    ("Dropout", lambda: L.Dropout(0.4, name="r"), "noise_shape", [None, 2, 6]),
    ("Dropout", lambda: L.Dropout(0.4, name="r"), "noise_shape", [None, 6]),
    ("GaussianNoise", lambda: L.GaussianNoise(0.4, name="r"), "stddev", -0.1),
    ("GaussianDropout", lambda: L.GaussianDropout(0.4, name="r"), "rate", 1.0),
    ("AlphaDropout", lambda: L.AlphaDropout(0.4, name="r"), "rate", 1.0),
]:
    REFUSALS.add(
        f"{name}-{option}-{value}",
        lambda m=make: sequential((3, 6), m()),
        f'layer "r" ({name})',
        f"{option} = ",
        edit=change(name, **{option: value}),
    )
REFUSALS.add(
    "SpatialDropout2D-rank",
    lambda: sequential((3, 2, 6), L.SpatialDropout2D(0.4, name="r")),
    'layer "r" (SpatialDropout2D)',
    "4 axes",
    edit=lambda document: document["config"]["layers"][0]["config"].update(
        batch_shape=[None, 3, 6]
    ),
)

test_layers = CASES.test()
test_refusals = REFUSALS.test()
