"""Convolutions in 1 to 3 dimensions, transposed, depthwise and separable, against TensorFlow."""

from __future__ import annotations

import keras
from keras import layers as L
from oracle import Cases, sequential

CASES = Cases()
ran = CASES.fixture()

SHAPES = {1: (11, 3), 2: (9, 7, 3), 3: (6, 5, 4, 2)}

OPTIONS = {
    "valid": {},
    "same": {"padding": "same"},
    "strides": {"strides": 2},
    "same_strides": {"padding": "same", "strides": 2},
    "even": {"kernel_size": 2, "padding": "same"},
    "dilation": {"dilation_rate": 2, "kernel_size": 2},
    "no_bias": {"use_bias": False, "activation": "tanh"},
}

for rank, layer in {1: L.Conv1D, 2: L.Conv2D, 3: L.Conv3D}.items():
    for name, options in OPTIONS.items():
        CASES.add(
            f"conv{rank}d-{name}",
            lambda c=layer, r=rank, o=options: sequential(
                SHAPES[r], c(**{"filters": 4, "kernel_size": 3} | o)
            ),
        )
CASES.add(
    "conv1d-causal",
    lambda: sequential((11, 3), L.Conv1D(4, 3, padding="causal", dilation_rate=2)),
)
CASES.add(
    "conv2d-unknown_size",
    lambda: sequential((None, None, 3), L.Conv2D(4, 3, strides=2, padding="same")),
)

for rank, layer in {
    1: L.Conv1DTranspose,
    2: L.Conv2DTranspose,
    3: L.Conv3DTranspose,
}.items():
    for padding in ["valid", "same"]:
        for strides, size in [(1, 3), (2, 3), (2, 2), (3, 2)]:
            CASES.add(
                f"conv{rank}d_transpose-{padding}-{strides}-{size}",
                lambda c=layer, r=rank, p=padding, s=strides, k=size: sequential(
                    SHAPES[r], c(4, k, strides=s, padding=p)
                ),
            )
CASES.add(
    "conv2d_transpose-output_padding",
    lambda: sequential(SHAPES[2], L.Conv2DTranspose(4, 3, strides=2, output_padding=1)),
)

for multiplier in [1, 2]:
    for padding in ["valid", "same"]:
        for strides in [1, 2]:
            options = {"depth_multiplier": multiplier, "padding": padding, "strides": strides}
            CASES.add(
                f"depthwise1d-{multiplier}-{padding}-{strides}",
                lambda o=options: sequential(SHAPES[1], L.DepthwiseConv1D(3, **o)),
            )
            CASES.add(
                f"depthwise2d-{multiplier}-{padding}-{strides}",
                lambda o=options: sequential(SHAPES[2], L.DepthwiseConv2D(3, **o)),
            )
            CASES.add(
                f"separable1d-{multiplier}-{padding}-{strides}",
                lambda o=options: sequential(SHAPES[1], L.SeparableConv1D(4, 3, **o)),
            )
            CASES.add(
                f"separable2d-{multiplier}-{padding}-{strides}",
                lambda o=options: sequential(SHAPES[2], L.SeparableConv2D(4, 3, **o)),
            )
CASES.add(
    "depthwise2d-dilation",
    lambda: sequential(SHAPES[2], L.DepthwiseConv2D(2, dilation_rate=2, activation="relu")),
)


def shared() -> keras.Model:
    """One convolution of images of two sizes."""
    conv = L.Conv2D(3, 2, padding="same")
    inputs = keras.Input((6, 6, 3))
    once = conv(inputs)
    twice = conv(L.MaxPooling2D()(once))
    return keras.Model(inputs, [once, twice])


CASES.add("conv2d-shared", shared)

test_layers = CASES.test()
