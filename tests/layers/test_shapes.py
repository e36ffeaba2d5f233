"""Pooling, reshaping and merging, against TensorFlow."""

from __future__ import annotations

import keras
from keras import layers as L
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from oracle import Cases, sequential

CASES = Cases()
ran = CASES.fixture()

SHAPES = {1: (8, 3), 2: (6, 8, 3), 3: (4, 6, 5, 2)}

for rank in [1, 2, 3]:
    shape = SHAPES[rank]
    for kind in ["Max", "Average"]:
        for padding in ["valid", "same"]:
            for size, strides in [(2, None), (3, 2)]:
                layer = getattr(L, f"{kind}Pooling{rank}D")
                CASES.add(
                    f"{kind}{rank}d-{padding}-{size}-{strides}",
                    lambda c=layer, s=shape, k=size, t=strides, p=padding: sequential(
                        s, c(k, strides=t, padding=p)
                    ),
                )
        for keepdims in [False, True]:
            layer = getattr(L, f"Global{kind}Pooling{rank}D")
            CASES.add(
                f"global_{kind}{rank}d-{keepdims}",
                lambda c=layer, s=shape, k=keepdims: sequential(s, c(keepdims=k)),
            )
        layer = getattr(L, f"Adaptive{kind}Pooling{rank}D")
        CASES.add(
            f"adaptive_{kind}{rank}d",
            lambda c=layer, s=shape: sequential(s, c(2)),
            # Keras builds a table of windows for it with TensorFlow; compared only in value.
        )
    for name, layer in {
        "cropping": lambda r: getattr(L, f"Cropping{r}D")(1),
        "zero_padding": lambda r: getattr(L, f"ZeroPadding{r}D")(2),
        "up_sampling": lambda r: getattr(L, f"UpSampling{r}D")(2),
    }.items():
        CASES.add(f"{name}{rank}d", lambda m=layer, r=rank, s=shape: sequential(s, m(r)))

CASES.add("cropping2d-uneven", lambda: sequential((6, 8, 3), L.Cropping2D(((0, 1), (2, 1)))))
CASES.add("padding2d-uneven", lambda: sequential((6, 8, 3), L.ZeroPadding2D(((0, 1), (2, 0)))))
for interpolation in ["nearest", "bilinear"]:
    CASES.add(
        f"up_sampling2d-{interpolation}",
        lambda i=interpolation: sequential((4, 5, 3), L.UpSampling2D((2, 3), interpolation=i)),
    )
CASES.add("permute", lambda: sequential((4, 5, 3), L.Permute((3, 1, 2))))
CASES.add("repeat_vector", lambda: sequential((4,), L.RepeatVector(3)))
CASES.add("flatten", lambda: sequential((4, 5, 3), L.Flatten()))
CASES.add("reshape-unknown", lambda: sequential((None, 6), L.Reshape((-1, 3))))


def merged(layer: keras.Layer, *shapes: tuple) -> keras.Model:
    """A merging layer of several inputs."""
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs))


for layer in [L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum]:
    CASES.add(f"{layer.__name__}-3", lambda c=layer: merged(c(), (4, 3), (4, 3), (4, 3)))
    CASES.add(f"{layer.__name__}-broadcast", lambda c=layer: merged(c(), (4, 3), (1, 3)))
CASES.add("subtract", lambda: merged(L.Subtract(), (4, 3), (4, 3)))
for axis in [1, 2, -1]:
    CASES.add(f"concatenate{axis}", lambda a=axis: merged(L.Concatenate(a), (4, 3), (4, 3)))
CASES.add("dot", lambda: merged(L.Dot(axes=(1, 2)), (4, 3), (5, 4)))
CASES.add("dot-normalized", lambda: merged(L.Dot(axes=1, normalize=True), (4,), (4,)))

CASES.add("prelu", lambda: sequential((4, 3), L.PReLU()))
CASES.add("prelu-shared", lambda: sequential((4, 5, 3), L.PReLU(shared_axes=[1, 2])))
CASES.add("softmax-axes", lambda: sequential((4, 5, 3), L.Softmax(axis=[1, 2])))
# Not "threshold", which lacks its arguments there.
for name in [
    "celu", "glu", "hard_shrink", "hard_tanh", "log_sigmoid", "soft_shrink", "sparse_plus",
    "sparsemax", "sparse_sigmoid", "squareplus", "tanh_shrink", "hard_silu",
]:  # fmt: skip
    CASES.add(f"activation-{name}", lambda n=name: sequential((4, 6), L.Activation(n)))

# What `keras.applications` defines for its own models.
for scale in [1e-6, 0.5]:
    CASES.add(
        f"layer_scale-{scale}", lambda s=scale: sequential((4, 3), LayerScale(s, 3, name="scale"))
    )
for rate in [0.0, 0.3]:
    CASES.add(
        f"stochastic_depth-{rate}",
        lambda r=rate: sequential((4, 3), StochasticDepth(r)),
        random=rate > 0,
    )
for scale in [1.0, 0.17]:
    CASES.add(f"custom_scale-{scale}", lambda s=scale: merged(CustomScaleLayer(s), (4, 3), (4, 3)))

test_layers = CASES.test()
