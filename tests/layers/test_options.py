"""Options of layers one by one, each with another value than its default, against TensorFlow."""

from __future__ import annotations

from keras import layers as L
from oracle import Cases, sequential

CASES = Cases()
ran = CASES.fixture()

# No axis is as large as there are filters: Keras on TensorFlow adds the bias of `channels_first`
# along the last axis if that is.
LAST = {1: (7, 4), 2: (7, 5, 4), 3: (8, 5, 7, 4)}
# The same with the channels before what is pooled or convolved.
FIRST = {rank: (shape[-1], *shape[:-1]) for rank, shape in LAST.items()}
CHANNELS_FIRST = {"data_format": "channels_first"}


def add(make, shape: tuple, *options: dict, random: bool = False) -> None:
    """A case of a layer with each of several options."""
    for each in options:
        CASES.add(
            f"{make.__name__}-{each}",
            lambda o=each: sequential(shape, make(**o)),
            random=random,
        )


for rank in [1, 2, 3]:
    size = dict.fromkeys(["cropping", "padding"], ((1, 2),) * rank if rank > 1 else (1, 2))
    names = {"cropping": f"Cropping{rank}D", "padding": f"ZeroPadding{rank}D"}
    for option, name in names.items():
        layer = getattr(L, name)
        add(layer, LAST[rank], {option: size[option]})
        if rank > 1 or option == "padding":
            add(layer, FIRST[rank], {option: size[option], **CHANNELS_FIRST})
    add(getattr(L, f"UpSampling{rank}D"), LAST[rank], {"size": 3})
    if rank > 1:
        add(getattr(L, f"UpSampling{rank}D"), FIRST[rank], {"size": 2, **CHANNELS_FIRST})
    for kind in ["Max", "Average"]:
        layer = getattr(L, f"{kind}Pooling{rank}D")
        add(layer, LAST[rank], {"pool_size": 3, "strides": 1})
        add(layer, FIRST[rank], {"pool_size": 2, "padding": "same", **CHANNELS_FIRST})
        add(getattr(L, f"Global{kind}Pooling{rank}D"), FIRST[rank], CHANNELS_FIRST)
        layer = getattr(L, f"Adaptive{kind}Pooling{rank}D")
        add(layer, LAST[rank], {"output_size": 3})
        add(layer, FIRST[rank], {"output_size": 3, **CHANNELS_FIRST})

    layer = getattr(L, f"Conv{rank}D")
    kernel = {"filters": 6, "kernel_size": 2}
    add(layer, LAST[rank], {**kernel, "groups": 2})
    add(layer, FIRST[rank], {**kernel, "padding": "same", **CHANNELS_FIRST})
    layer = getattr(L, f"Conv{rank}DTranspose")
    add(layer, LAST[rank], {**kernel, "activation": "tanh", "use_bias": False})
    add(layer, LAST[rank], {**kernel, "strides": 3, "output_padding": 1})
    add(layer, FIRST[rank], {**kernel, "strides": 2, "padding": "same", **CHANNELS_FIRST})
    # Keras on TensorFlow dilates no transposed convolution in three dimensions.
    if rank < 3:
        add(layer, LAST[rank], {**kernel, "dilation_rate": 2})
        for name, filters in {"Depthwise": {}, "Separable": {"filters": 6}}.items():
            layer = getattr(L, f"{name}Conv{rank}D")
            own = {"kernel_size": 2, **filters}
            add(layer, LAST[rank], {**own, "activation": "tanh", "use_bias": False})
            add(layer, LAST[rank], {**own, "dilation_rate": 2, "padding": "same"})
            add(layer, FIRST[rank], {**own, "padding": "same", **CHANNELS_FIRST})

add(L.Flatten, LAST[2], CHANNELS_FIRST)
add(L.Permute, LAST[1], {"dims": (2, 1)})
add(L.RepeatVector, (4,), {"n": 1})
add(L.SpatialDropout1D, LAST[1], {"rate": 0.2}, random=True)
add(L.SpatialDropout2D, LAST[2], {"rate": 0.2}, random=True)
add(L.SpatialDropout3D, LAST[3], {"rate": 0.2}, random=True)


def of_cell(cell: type, **options) -> None:
    """A case of a cell's options."""
    CASES.add(
        f"{cell.__name__}-{options}",
        lambda: sequential((5, 3), L.RNN(cell(4, **options), return_sequences=True)),
    )


for cell in [L.SimpleRNNCell, L.GRUCell, L.LSTMCell]:
    of_cell(cell, activation="softsign", use_bias=False)
for cell in [L.GRUCell, L.LSTMCell]:
    of_cell(cell, recurrent_activation="hard_sigmoid")
of_cell(L.LSTMCell, unit_forget_bias=False)

test_layers = CASES.test()
