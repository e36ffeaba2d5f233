"""Operations that move, join, cut, read and write elements, against TensorFlow."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from operations import FLOAT, OperationCases, with_specials, with_ties

CASES = OperationCases()
ran = CASES.fixture()

CUBE = ((2, 3, 4), "float32")
OPEN = ((None, 4), "float32")
MATRIX = ((4, 4), "float32")
VECTOR = ((6,), "float32")


def variants(call, *options):
    """The operation with each of several options."""
    return lambda x: [call(x, **o) if isinstance(o, dict) else call(x, o) for o in options]


CASES.op("reshape", variants(ops.reshape, (-1, 12), (-1, 4, 3), (-1, 2, 6, 1), (5, -1), (60,)))
CASES.op("reshape-open", variants(ops.reshape, (-1, 4), (-1, 2, 2), (4, -1)), OPEN)
CASES.op("ravel", ops.ravel)
CASES.op("transpose", variants(ops.transpose, {}, (0, 2, 1), (1, 0, 2), (-1, 0, 1)))
CASES.op("transpose-cube", variants(ops.transpose, {}, (0, 3, 1, 2), (0, 2, 1, 3)), CUBE)
CASES.op("swapaxes", lambda x: [ops.swapaxes(x, 1, 2), ops.swapaxes(x, -1, 1)], CUBE)
CASES.op(
    "moveaxis",
    lambda x: [ops.moveaxis(x, 1, -1), ops.moveaxis(x, [1, 2], [3, 1]), ops.moveaxis(x, -1, 1)],
    CUBE,
)
CASES.op("expand_dims", variants(ops.expand_dims, 1, -1, -2, (1, 3), (0, 2)))
CASES.op("squeeze", variants(ops.squeeze, {}, 1, (1, 3), -1), ((1, 3, 1), "float32"))
CASES.op("broadcast_to", lambda x: ops.broadcast_to(x, (5, 3, 4)), ((1, 4), "float32"))
CASES.op("flip", variants(ops.flip, {}, 1, -1, (0, 2)))
CASES.op("fliplr", ops.fliplr)
CASES.op("flipud", ops.flipud)
CASES.op(
    "roll",
    lambda x: [
        ops.roll(x, 2), ops.roll(x, -1, axis=1), ops.roll(x, 5, axis=-1),
        ops.roll(x, (1, 2), axis=(1, 2)),
    ],
)  # fmt: skip
CASES.op(
    "rot90",
    lambda x: [ops.rot90(x, k=k, axes=a) for k, a in [(1, (1, 2)), (2, (1, 2)), (3, (2, 1)), (-1, (0, 2))]],
)  # fmt: skip
CASES.op("tile", variants(ops.tile, 2, (2, 1), (1, 2, 3), (2, 1, 1, 2)))
CASES.op(
    "repeat",
    lambda x: [
        ops.repeat(x, 2), ops.repeat(x, 3, axis=1), ops.repeat(x, 2, axis=-1),
        ops.repeat(x, [1, 0, 2], axis=1),
    ],
)  # fmt: skip
# One number or pair for all axes, which NumPy takes, TensorFlow refuses.
CASES.op(
    "pad",
    lambda x: [
        ops.pad(x, [[0, 0], [1, 2], [0, 3]]),
        ops.pad(x, [[0, 0], [1, 2], [0, 3]], constant_values=2.5),
        ops.pad(x, [[0, 0], [1, 2], [3, 0]], mode="reflect"),
        ops.pad(x, [[0, 0], [3, 2], [1, 4]], mode="symmetric"),
    ],
)  # fmt: skip
CASES.op("pad-integers", lambda x: ops.pad(x, [[0, 0], [1, 1]], constant_values=7), ((3,), "int32"))
CASES.op("triu", variants(ops.triu, 0, 1, -1, 5), CUBE)
# TensorFlow refuses diagonals above the last.
CASES.op("tril", variants(ops.tril, 0, 1, -1, 4), CUBE)
CASES.op(
    "diagonal", lambda x: [ops.diagonal(x), ops.diagonal(x, 1, 1, 2), ops.diagonal(x, -1, 2, 1)]
)
CASES.op("trace", lambda x: [ops.trace(x, axis1=1, axis2=2), ops.trace(x, axis1=0, axis2=2)])
CASES.op("trace-offset", lambda x: ops.trace(x, 1, 1, 2), ((4, 4), "int8"))
CASES.op("diag", lambda x: [ops.diag(x), ops.diag(x, 1), ops.diag(x, -2)], VECTOR)
CASES.op("diag-of-a-vector", lambda x: [ops.diag(x[:, 0]), ops.diag(x[:, 0], -1)], VECTOR)
CASES.op("diagflat", lambda x: [ops.diagflat(x), ops.diagflat(x, 2)], VECTOR)

GETITEM = {
    "column": lambda x: x[:, 0],
    "last": lambda x: x[:, -1],
    "row": lambda x: x[0],
    "both": lambda x: x[:, 1, 2],
    "range": lambda x: x[:, 1:3],
    "open_range": lambda x: x[:, 1:],
    "from_end": lambda x: x[:, -2:],
    "up_to_end": lambda x: x[:, :-1],
    "steps": lambda x: x[:, ::2, 1::2],
    "backwards": lambda x: x[:, ::-1, 3:0:-2],
    "outside": lambda x: x[:, 1:99, -99:2],
    "empty": lambda x: x[:, 2:1],
    "ellipsis": lambda x: x[..., 0],
    "ellipsis_first": lambda x: x[..., 1:3],
    "ellipsis_between": lambda x: x[1:, ..., None],
    "new_axes": lambda x: x[:, None, :, None],
    "of_the_batch": lambda x: x[1:3, 0],
    # Keras takes no bare slice.
    "whole": lambda x: x[:, :, :],
}
for name, call in GETITEM.items():
    CASES.op(f"getitem-{name}", call)
CASES.op("getitem-of-open-axes", lambda x: [x[:, 1:-1], x[:, ::2], x[:, -1], x[:, :2, 0]], OPEN)
CASES.op("getitem-integers", lambda x: [x[:, 0], x[..., None]], ((3,), "int32"))

PAIR = [((3, 4), "float32"), ((2, 4), "float32")]
CASES.op("concatenate", lambda x, y: [ops.concatenate([x, y], axis=1), ops.concatenate([x, y, x], axis=-2)],
         *PAIR)  # fmt: skip
CASES.op("concatenate-of-the-batch", lambda x, y: ops.concatenate([x, y]), FLOAT, FLOAT)
CASES.op(
    "concatenate-with-an-array",
    lambda x: ops.concatenate([x, np.ones((5, 2, 4), "float32"), np.zeros((5, 1, 4), "int32")], axis=1),
)  # fmt: skip
CASES.op("concatenate-promotion", lambda *x: ops.concatenate(list(x), axis=1),
         ((2,), "int32"), ((3,), "float32"), ((1,), "bool"))  # fmt: skip
CASES.op("append", lambda x, y: [ops.append(x, y), ops.append(x, y, axis=1)], *PAIR)
CASES.op("stack", lambda x, y: [ops.stack([x, y], axis=a) for a in (0, 1, -1, -2)], FLOAT, FLOAT)
CASES.op(
    "stack-promotion", lambda x, y: ops.stack([x, y], axis=1), ((2,), "int32"), ((2,), "float32")
)
CASES.op("vstack", lambda x, y: ops.vstack([x, y]), FLOAT, FLOAT)
CASES.op("hstack", lambda x, y: ops.hstack([x, y]), *PAIR)
CASES.op("dstack", lambda x, y: ops.dstack([x, y]), FLOAT, ((3, 2), "float32"))
CASES.op("dstack-of-matrices", lambda x, y: ops.dstack([x, y]), VECTOR, VECTOR)
CASES.op(
    "meshgrid",
    lambda x, y: [*ops.meshgrid(x[:, 0], y[:, 0]), *ops.meshgrid(x[:, 0], y[:, 0], indexing="ij")],
    VECTOR, VECTOR,
)  # fmt: skip

CASES.op("split", lambda x: [*ops.split(x, 2, axis=-1), *ops.split(x, 3, axis=1)])
CASES.op("split-at", lambda x: [*ops.split(x, [1, 3], axis=-1), *ops.split(x, [2], axis=1)])
CASES.op("split-of-the-batch", lambda x: ops.split(x, 2), rows=6)
CASES.op("split-of-open-axes", lambda x: ops.split(x, 5, axis=1), OPEN)
CASES.op("array_split", lambda x: ops.array_split(x, 3, axis=2))
CASES.op("hsplit", lambda x: ops.hsplit(x, 3))
CASES.op("vsplit", lambda x: ops.vsplit(x, 2), rows=4)
CASES.op("dsplit", lambda x: ops.dsplit(x, 2))
CASES.op("unstack", lambda x: [*ops.unstack(x, axis=1), *ops.unstack(x, axis=-1)])
CASES.op("some-parts-unused", lambda x: ops.split(x, 2, axis=-1)[1] * 2)

INDICES = ((2,), "int32")
CASES.op(
    "take",
    lambda x, i: [
        ops.take(x, 1, axis=1), ops.take(x, [0, 2, -1], axis=1),
        ops.take(x, [[0, 1], [3, 2]], axis=2), ops.take(x, i, axis=-1), ops.take(x, i),
        ops.take(x, np.array([2, 0]), axis=1),
    ],
    FLOAT, INDICES,
)  # fmt: skip
CASES.op("take-rows", lambda x, i: ops.take(x, i, axis=0), FLOAT, INDICES)
CASES.op(
    "take_along_axis",
    lambda x, i: [
        ops.take_along_axis(x, i, axis=2), ops.take_along_axis(x, i[:, :, :1] - 1, axis=-1),
        ops.take_along_axis(x, ops.argsort(x, axis=-1), axis=-1),
    ],
    FLOAT, ((3, 2), "int32"),
)  # fmt: skip
CASES.op(
    "take_along_axis-flat", lambda x, i: ops.take_along_axis(x, i[:, 0], axis=None), FLOAT, INDICES
)
CASES.op(
    "slice", lambda x: [ops.slice(x, (0, 1, 1), (2, 2, 3)), ops.slice(x, (1, 0, 2), (-1, -1, 2))]
)
CASES.op("slice-by-a-tensor", lambda x, i: ops.slice(x, i[0], (2, 1, 1)), FLOAT, ((3,), "int32"),
         inputs=lambda _: [np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32"),
                           np.array([[1, 2, 3]] * 5, dtype="int32")])  # fmt: skip
# Of integers: TensorFlow has no gradient of XlaDynamicUpdateSlice.
UPDATE = [((3, 4), "int32"), ((2, 2), "int32")]
# How many indices there are is not known: each row of the batch is one. TensorFlow has no gradient
# of the update.
for indices in [[1, 0], [0, 1], [0, 0]]:
    CASES.op(
        f"slice-by-rows-{indices}",
        lambda x, i: [
            ops.slice(x, i, (1, 2)), ops.slice(x, i, (-1, 2)),
            ops.slice_update(ops.stop_gradient(x), i, ops.stop_gradient(x[:1, :2] * 2.0)),
        ],
        ((3,), "float32"), ((), "int32"),
        inputs=lambda model, i=indices: [
            np.random.default_rng(2).normal(size=(2, 3)).astype("float32"), np.array(i, "int32"),
        ],
    )  # fmt: skip
CASES.op("slice_update", lambda x, y: ops.slice_update(x, (0, 1, 2), y), *UPDATE)
CASES.op("slice_update-moved", lambda x, y: ops.slice_update(x, (3, 9, 1), y), *UPDATE)
CASES.op(
    "scatter",
    lambda i, x: [ops.scatter(i, x[:, 0], (6,)), ops.scatter(i, x, (5, 4))],
    ((1,), "int32"), ((4,), "float32"),
)  # fmt: skip
CASES.op(
    "scatter-pairs",
    lambda i, x: ops.scatter(i, x[:, 0], (4, 4)),
    ((2,), "int32"),
    ((4,), "float32"),
)
UNIQUE = lambda _: [  # noqa: E731
    np.random.default_rng(0).normal(size=(5, 4)).astype("float32"),
    np.array([[3], [0], [4], [1], [2]], dtype="int32"),
    np.random.default_rng(1).normal(size=(5, 4)).astype("float32"),
]
UPDATE = [((4,), "float32"), ((1,), "int32"), ((4,), "float32")]
CASES.op("scatter_update", ops.scatter_update, *UPDATE, inputs=UNIQUE)
CASES.op(
    "extremes-specials",
    lambda x: [f(x, axis=a) for f in (ops.argmax, ops.argmin, ops.max, ops.min) for a in (1, -1)],
    inputs=with_specials,
)
for reduction in ["add", "max", "min", "mul"]:
    CASES.op(
        f"scatter_update-{reduction}",
        lambda x, i, y, r=reduction: ops.scatter_update(x, i, y, reduction=r),
        *UPDATE,
        inputs=UNIQUE,
    )
CASES.op("scatter_update-add-repeated", lambda x, i, y: ops.scatter_update(x, i, y, reduction="add"),
         *UPDATE)  # fmt: skip
for dtype in [None, "float32", "int32", "bool"]:
    CASES.op(
        f"one_hot-{dtype}",
        lambda x, d=dtype: [ops.one_hot(x, 3, dtype=d), ops.one_hot(x - 1, 4, axis=1, dtype=d)],
        ((3,), "int32"),
    )
CASES.op(
    "multi_hot",
    lambda x: [ops.multi_hot(x, 5), ops.multi_hot(x, 3, dtype="int32")],
    ((3,), "int32"),
)

for name in ["segment_sum", "segment_max", "segment_min", "segment_prod"]:
    call = getattr(ops, name, None) or getattr(keras.ops, name)
    CASES.op(name, lambda x, i, f=call: [f(x, i[:, 0], 4), f(x, i[:, 0], 6)], FLOAT, ((1,), "int32"),
             inputs=lambda m: [with_ties(m)[0], np.array([[2], [0], [2], [0], [3]], dtype="int32")])  # fmt: skip
    CASES.op(
        f"{name}-integers", lambda x, i, f=call: f(x, i[:, 0], 5), ((2,), "int32"), ((1,), "int32")
    )
    CASES.op(f"{name}-negative", lambda x, i, f=call: f(x, i[:, 0] - 1, 5), FLOAT, ((1,), "int32"))
CASES.op("segment_sum-sorted", lambda x, i: ops.segment_sum(x, i[:, 0], sorted=True), FLOAT, ((1,), "int32"),
         inputs=lambda m: [with_ties(m)[0], np.array([[0], [0], [1], [1], [2]], dtype="int32")])  # fmt: skip

IMAGE = ((4, 6, 8), "float32")
CASES.op("depth_to_space", lambda x: ops.nn.depth_to_space(x, 2), IMAGE)
CASES.op("space_to_depth", lambda x: ops.nn.space_to_depth(x, 2), IMAGE)
CASES.op("depth_to_space-first", lambda x: ops.nn.depth_to_space(x, 2, data_format="channels_first"),
         ((8, 2, 3), "float32"))  # fmt: skip
CASES.op("space_to_depth-first", lambda x: ops.nn.space_to_depth(x, 2, data_format="channels_first"),
         ((3, 4, 6), "float32"))  # fmt: skip
for interpolation in ["nearest", "bilinear"]:
    for size in [(8, 12), (3, 3), (7, 5), (4, 6)]:
        CASES.op(
            f"resize-{interpolation}-{size}",
            lambda x, i=interpolation, s=size: ops.image.resize(x, s, interpolation=i),
            IMAGE,
        )
RESIZED = {
    "bicubic": {"interpolation": "bicubic"},
    "lanczos3": {"interpolation": "lanczos3", "antialias": True},
    "lanczos5": {"interpolation": "lanczos5"},
    "antialias": {"antialias": True},
    "crop": {"crop_to_aspect_ratio": True},
    "pad": {"pad_to_aspect_ratio": True, "fill_value": 2},
}
for name, options in RESIZED.items():
    for size in [(8, 12), (3, 3), (7, 5)]:
        CASES.op(
            f"resize-{name}-{size}",
            lambda x, y, s=size, o=options: [
                ops.image.resize(x, s, **o),
                ops.image.resize(y, s, data_format="channels_first", **o),
            ],
            IMAGE,
            ((2, 5, 6), "float32"),
        )
        if size == (7, 5):
            # Halves, which rounding in float32 takes up or down before they are rounded.
            continue
        CASES.op(
            f"resize-{name}-{size}-integers",
            lambda x, s=size, o=options: ops.image.resize(x, s, **o),
            ((4, 6, 3), "uint8"),
            inputs=lambda m: [np.random.default_rng(3).integers(0, 256, (5, 4, 6, 3), "uint8")],
        )
CASES.op(
    "resize-area",
    lambda x: ops.image.resize(x, (2, 3), interpolation="area"),
    ((4, 6, 3), "uint8"),
)

test_operations = CASES.test()
