"""Operations of `keras.ops.nn`: convolution, pooling, crossentropy and others, against TensorFlow."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from keras.src.ops import nn as classes
from operations import OperationCases, functional, with_ties
from refusal import Refusals, change

CASES = OperationCases()
ran = CASES.fixture()

RNG = np.random.default_rng(11)
FORMATS = ("channels_last", "channels_first")
# Sizes of the axes between batch and channels.
SPATIAL = {1: (9,), 2: (8, 7), 3: (5, 6, 4)}


def images(shape: tuple, channels: int, data_format: str, dtype: str = "float32") -> tuple:
    """The spec of inputs with `channels` in a layout."""
    full = (*shape, channels) if data_format == "channels_last" else (channels, *shape)
    return full, dtype


def kernel(*shape: int, dtype: str = "float32") -> np.ndarray:
    """A constant kernel."""
    return (RNG.normal(size=shape) * 0.5).astype(dtype)


def symbolic(*shape: int) -> tuple:
    """The spec of an input whose first row is a kernel."""
    return shape, "float32"


# Pooling. Ties show which of equal maxima gets the gradient.
POOLS = [
    dict(pool_size=2),
    dict(pool_size=3, strides=2, padding="same"),
    dict(pool_size=2, strides=1, padding="SAME"),
    dict(pool_size=3, strides=1),
    dict(pool_size=2, strides=3, padding="same"),
]
for rank, shape in SPATIAL.items():
    sizes = tuple(range(2, 2 + rank))
    for data_format in FORMATS:
        spec = images(shape, 3, data_format)
        variants = [*POOLS, dict(pool_size=sizes, strides=sizes[::-1], padding="same")]
        for function in (ops.max_pool, ops.average_pool):
            CASES.op(
                f"{function.__name__}-{rank}-{data_format}",
                lambda x, f=function, d=data_format, v=variants: [
                    f(x, data_format=d, **options) for options in v
                ],
                spec, inputs=with_ties,
            )  # fmt: skip
        # Keras does not open models of these, for it takes the lists in JSON for tuples. TensorFlow
        # ends the process where one window is the whole axis.
        for function in (ops.adaptive_max_pool, ops.adaptive_average_pool):
            CASES.op(
                f"{function.__name__}-{rank}-{data_format}",
                lambda x, f=function, d=data_format, n=rank: [
                    f(x, size, data_format=d) for size in [(2,) * n, (3, 2, 4)[:n], (4,) * n]
                ],
                spec, inputs=with_ties, export=False,
            )  # fmt: skip
for dtype in ("int32", "uint8", "int64"):
    CASES.op(
        f"max_pool-{dtype}",
        lambda x: [ops.max_pool(x, 2), ops.max_pool(x, 3, 1, "same"), ops.adaptive_max_pool(x, (3, 2))],
        ((6, 5, 2), dtype), export=False,
    )  # fmt: skip
CASES.op(
    "pool-unknown",
    lambda x: [ops.max_pool(x, 2), ops.average_pool(x, 2, padding="same"), ops.max_pool(x, 2, data_format=None)],
    ((None, None, 2), "float32"),
)  # fmt: skip
# Sixteen bits hold three digits.
for dtype in ("float16", "bfloat16"):
    CASES.op(
        f"pool-{dtype}",
        lambda x, t=dtype: [
            ops.max_pool(ops.cast(x, t), 2), ops.average_pool(ops.cast(x, t), 3, 2, "same"),
            ops.adaptive_average_pool(ops.cast(x, t), (3, 2)),
        ],
        ((6, 5, 2), "float32"), tolerance=1e-2, export=False,
    )  # fmt: skip


def after_relu() -> keras.Model:
    """A pooling that can go before the activation of the layer before."""
    x = keras.Input((8, 7, 2))
    y = keras.layers.Conv2D(3, 3, activation="relu")(x)
    return keras.Model(x, ops.max_pool(y, 2))


CASES.add("pool-after-relu", after_relu)

# Convolutions, by constant kernels and by kernels that are computed.
CONVOLUTIONS = [
    dict(),
    dict(strides=2, padding="same"),
    dict(padding="SAME", dilation_rate=2),
    dict(strides=3),
]
for rank, shape in SPATIAL.items():
    sizes = (3, 2, 2)[:rank]
    for data_format in FORMATS:
        spec = images(shape, 4, data_format)
        CASES.op(
            f"conv-{rank}-{data_format}",
            lambda x, k, d=data_format, c=kernel(*sizes, 4, 6): [
                *(ops.conv(x, c, data_format=d, **options) for options in CONVOLUTIONS),
                ops.conv(x, k[0], data_format=d, padding="same"),
            ],
            spec, symbolic(*sizes, 4, 6), tolerance=2e-5,
        )  # fmt: skip
        if rank == 3:
            continue
        depthwise = kernel(*sizes, 4, 2)
        pointwise = kernel(*(1,) * rank, 8, 3)
        uneven = dict(strides=2, dilation_rate=2, padding="same")
        variants = [*CONVOLUTIONS, uneven, dict(strides=2, dilation_rate=2)]
        CASES.op(
            f"depthwise_conv-{rank}-{data_format}",
            lambda x, k, d=data_format, c=depthwise, v=variants: [
                *(ops.depthwise_conv(x, c, data_format=d, **options) for options in v),
                ops.depthwise_conv(x, k[0], data_format=d),
            ],
            spec, symbolic(*depthwise.shape), tolerance=2e-5,
        )  # fmt: skip
        CASES.op(
            f"separable_conv-{rank}-{data_format}",
            lambda x, k, p, d=data_format, c=depthwise, q=pointwise, v=variants: [
                *(ops.separable_conv(x, c, q, data_format=d, **options) for options in v),
                ops.separable_conv(x, k[0], p[0], data_format=d),
            ],
            spec, symbolic(*depthwise.shape), symbolic(*pointwise.shape), tolerance=2e-5,
        )  # fmt: skip
CASES.op(
    "conv-unknown",
    lambda x, k: [ops.conv(x, k[0]), ops.conv(x, k[0], 2, "same"), ops.depthwise_conv(x, k[0])],
    ((None, None, 2), "float32"), symbolic(2, 3, 2, 4), tolerance=2e-5,
)  # fmt: skip
CASES.op(
    "conv-integers",
    lambda x, y: [
        ops.conv(x, np.arange(16, dtype="int32").reshape(2, 2, 2, 2), padding="same"),
        ops.conv(y, np.arange(12, dtype="int32").reshape(3, 2, 2) * 2**28, strides=2),
    ],
    ((5, 4, 2), "int32"), ((6, 2), "int32"),
)  # fmt: skip
for dtype in ("float16", "bfloat16"):
    CASES.op(
        f"conv-{dtype}",
        lambda x, k, t=dtype: [
            ops.conv(ops.cast(x, t), ops.cast(k[0], t)),
            ops.depthwise_conv(ops.cast(x, t), ops.cast(k[0], t), padding="same"),
        ],
        ((5, 4, 2), "float32"), symbolic(3, 2, 2, 4), tolerance=3e-2,
    )  # fmt: skip

CASES.op(
    "convolution-float64",
    lambda x, k: [
        call(ops.cast(x, "float64"), ops.cast(k[0], "float64"))
        for call in (
            ops.conv, ops.depthwise_conv, lambda x, k: ops.max_pool(x, 2), lambda x, k: ops.average_pool(x, 3, 1, "same"),
        )
    ],
    ((5, 4, 2), "float32"), symbolic(3, 2, 2, 4),
)  # fmt: skip

TRANSPOSED = [
    dict(),
    dict(strides=2),
    dict(strides=2, padding="same"),
    dict(padding="same", dilation_rate=2),
    dict(strides=3, output_padding=1),
    dict(strides=3, output_padding=2, padding="same"),
]


def mend(call):
    """Keras's own call of `ConvTranspose` mixes up padding and output_padding."""

    def mended(self, inputs, weights):
        """What the function does outside of a graph."""
        options = (self.strides, self.padding, self.output_padding, self.data_format)
        return classes.backend.nn.conv_transpose(inputs, weights, *options, self.dilation_rate)

    classes.ConvTranspose.call = mended
    return call


for rank, shape in SPATIAL.items():
    sizes = (3, 2, 3)[:rank]
    for data_format in FORMATS:
        CASES.op(
            f"conv_transpose-{rank}-{data_format}",
            mend(lambda x, k, d=data_format, c=kernel(*sizes, 3, 4): [
                *(ops.conv_transpose(x, c, data_format=d, **options) for options in TRANSPOSED),
                ops.conv_transpose(x, k[0], data_format=d, strides=2),
            ]),
            images(shape, 4, data_format), symbolic(*sizes, 3, 4), tolerance=2e-5,
        )  # fmt: skip

# Crossentropies, of probabilities, logits and what a softmax or sigmoid gave.
CLASSES = ((3, 4), "float32")


def shares(model) -> list[np.ndarray]:
    """Inputs between 0 and 1, with both ends among them; class ids for integers."""
    rng = np.random.default_rng(8)
    inputs = []
    for spec in model.inputs:
        shape = (5, *[3 if size is None else size for size in spec.shape[1:]])
        if spec.dtype == "int32":
            inputs.append(rng.integers(0, 4, shape).astype("int32"))
        else:
            inputs.append(np.clip(rng.uniform(-0.1, 1.1, shape), 0, 1).astype("float32"))
    return inputs


CASES.op(
    "binary_crossentropy",
    lambda t, x: [
        ops.binary_crossentropy(t, x), ops.binary_crossentropy(t, x, from_logits=True),
        ops.binary_crossentropy(t, ops.sigmoid(x)), ops.binary_crossentropy(t, ops.softmax(x)),
        ops.binary_crossentropy(t, ops.sigmoid(x), from_logits=True), ops.binary_crossentropy(t, ops.sigmoid(x) * 0.9),
    ],
    CLASSES, CLASSES, inputs=shares,
)  # fmt: skip
CASES.op(
    "categorical_crossentropy",
    lambda t, x: [
        *(ops.categorical_crossentropy(t, x, from_logits=l, axis=a) for l in (False, True) for a in (-1, 2, 1)),
        ops.categorical_crossentropy(t, ops.softmax(x)), ops.categorical_crossentropy(t, ops.sigmoid(x)),
        ops.categorical_crossentropy(t, ops.softmax(x, axis=1), axis=1),
    ],
    CLASSES, CLASSES, inputs=shares,
)  # fmt: skip
CASES.op(
    "sparse_categorical_crossentropy",
    lambda t, u, x: [
        *(ops.sparse_categorical_crossentropy(i, x, from_logits=l) for l in (False, True) for i in (t, u)),
        ops.sparse_categorical_crossentropy(t, ops.softmax(x), axis=2),
        ops.sparse_categorical_crossentropy(ops.cast(t, "float32"), x),
    ],
    ((3,), "int32"), ((3, 1), "int32"), CLASSES, inputs=shares,
)  # fmt: skip
CASES.op(
    "crossentropy-unknown",
    lambda t, i, x: [
        ops.binary_crossentropy(t, x), ops.categorical_crossentropy(t, x), ops.sparse_categorical_crossentropy(i, x),
    ],
    ((None, 4), "float32"), ((None,), "int32"), ((None, 4), "float32"), inputs=shares,
)  # fmt: skip
ONE_HOT = np.eye(4, dtype="float32")[[[0, 1, 3]] * 5]


def with_constants() -> keras.Model:
    """Crossentropies beside arrays, which Keras takes for as many rows only as inputs declare."""
    x = keras.Input(batch_shape=(5, 3, 4))
    return keras.Model(x, [
        ops.binary_crossentropy(ONE_HOT, x), ops.categorical_crossentropy(ONE_HOT, x),
        ops.sparse_categorical_crossentropy(np.array([[0, 1, 3]] * 5), x), ops.categorical_crossentropy(x, ONE_HOT),
    ])  # fmt: skip


CASES.add("crossentropy-constant", with_constants, inputs=shares)
for dtype in ("float16", "bfloat16"):
    CASES.op(
        f"crossentropy-{dtype}",
        lambda t, x, d=dtype: [
            ops.categorical_crossentropy(ops.cast(t, d), ops.cast(x, d), from_logits=True),
            ops.binary_crossentropy(ops.cast(t, d), ops.cast(x, d), from_logits=True),
        ],
        CLASSES, CLASSES, inputs=shares, tolerance=2e-2,
    )  # fmt: skip


# Connectionist temporal classification.
def sequences(model: keras.Model) -> list[np.ndarray]:
    """Labels, logits and the lengths of both; labels repeat, and some rows have none."""
    labels = [[1, 2, 4, 4], [1, 1, 2, 4], [3, 4, 4, 3], [4, 4, 4, 4], [2, 3, 2, 0]]
    logits = RNG.normal(size=(5, *model.inputs[1].shape[1:])).astype("float32")
    return [
        np.array(labels, "int32"),
        logits,
        np.array([2, 3, 4, 0, 3], "int32"),
        np.array([8, 7, 6, 8, 4], "int32"),
    ]


SEQUENCES = [((4,), "int32"), ((8, 6), "float32"), ((), "int32"), ((), "int32")]
CASES.op(
    "ctc_loss",
    lambda t, x, n, m: [
        ops.ctc_loss(t, x, n, m), ops.ctc_loss(t, x, n, m, mask_index=5), ops.ctc_loss(t, x, n, m, mask_index=-1),
        ops.ctc_loss(t, ops.cast(x, "float64"), n, m),
    ],
    *SEQUENCES, inputs=sequences, tolerance=2e-5,
)  # fmt: skip
CASES.op("ctc_loss-half", lambda t, x, n, m: ops.ctc_loss(t, ops.cast(x, "float16"), n, m), *SEQUENCES,
         inputs=sequences, tolerance=1e-2)  # fmt: skip
STEPS = [((7, 5), "float32"), ((), "int32")]


def steps(model: keras.Model) -> list[np.ndarray]:
    """Logits and how many steps of them count."""
    return [RNG.normal(size=(5, 7, 5)).astype("float32") * 2, np.array([7, 5, 1, 0, 6], "int32")]


CASES.op(
    "ctc_decode-greedy",
    lambda x, n: [
        *ops.ctc_decode(x, n), *ops.ctc_decode(x, n, merge_repeated=False, mask_index=2),
        *ops.ctc_decode(x, n, mask_index=None), *ops.ctc_decode(ops.round(x), n), *ops.ctc_decode(x, n, mask_index=-2),
    ],
    *STEPS, inputs=steps,
)  # fmt: skip
for width, paths in [(100, 1), (4, 1), (9, 4), (1, 1)]:
    CASES.op(
        f"ctc_decode-beam-{width}-{paths}",
        lambda x, n, w=width, p=paths: [
            y for blank in (0, 3, None, -2)
            for y in ops.ctc_decode(x, n, "beam_search", beam_width=w, top_paths=p, mask_index=blank)
        ],
        *STEPS, inputs=lambda model: [steps(model)[0], np.array([7, 5, 2, 4, 6], "int32")],
    )  # fmt: skip

CASES.op(
    "psnr",
    lambda x, y: [ops.psnr(x, y, 1.0), ops.psnr(x, y, 255), ops.psnr(x[0], np.ones((3, 4), "float32"), 2.5)],
    CLASSES, CLASSES,
)  # fmt: skip

REFUSALS = Refusals()
messages = REFUSALS.fixture()


def refuse(name: str, call, *parts: str, specs=(CLASSES,), **options) -> None:
    """A case of an operation that is refused."""
    REFUSALS.add(name, lambda: functional(call, *specs), *parts, **options)


FRAME = ((6, 5, 2), "float32")
refuse("polar", lambda x, y: ops.polar(x, y), "Polar", "is not supported", specs=(CLASSES, CLASSES))
refuse(
    "pool-padding",
    lambda x: ops.max_pool(x, 2),
    'padding = "causal"',
    specs=(FRAME,),
    edit=change("MaxPool", padding="causal"),
)
refuse(
    "pool-rank",
    lambda x: ops.max_pool(x, 2),
    "1 to 3 axes",
    specs=(FRAME,),
    edit=lambda d: d["config"]["layers"][0]["config"].update(batch_shape=[None, 6]),
)
refuse(
    "pool-integers",
    lambda x: ops.average_pool(x, 2),
    "needs floating-point numbers",
    specs=((FRAME[0], "int32"),),
)
refuse(
    "conv-both",
    lambda x: ops.conv(x, kernel(2, 2, 2, 3)),
    "cannot both be above 1",
    specs=(FRAME,),
    edit=change("Conv", strides=2, dilation_rate=2),
)
refuse(
    "conv-integers",
    lambda x: ops.conv(x, np.ones((2, 2, 2, 3), "int64")),
    "needs floating-point numbers",
    specs=((FRAME[0], "int64"),),
)
refuse("sparse-axis", lambda t, x: ops.sparse_categorical_crossentropy(t, x), "axis = 1", "last axis",
       specs=(((3,), "int32"), CLASSES), edit=change("SparseCategoricalCrossentropy", axis=1))  # fmt: skip
refuse(
    "beam-blank",
    lambda x, n: ops.ctc_decode(x, n, "beam_search")[0],
    "mask_index = -1",
    specs=STEPS,
    edit=change("CTCDecode", mask_index=-1),
)
refuse(
    "beam-paths",
    lambda x, n: ops.ctc_decode(x, n, "beam_search")[0],
    "top_paths = 3",
    specs=STEPS,
    edit=change("CTCDecode", top_paths=3, beam_width=2),
)
refuse("beam-few", lambda x, n: ops.ctc_decode(x, n, "beam_search", top_paths=2)[0], "finds 1 label sequences", specs=STEPS,
       inputs=[np.zeros((1, 7, 5), "float32"), np.zeros(1, "int32")])  # fmt: skip
refuse("ctc-long", lambda t, x, n, m: ops.ctc_loss(t, x, n, m), "do not fit into the steps", specs=SEQUENCES,
       inputs=[np.ones((1, 4), "int32"), np.zeros((1, 8, 6), "float32"), np.array([4], "int32"), np.array([6], "int32")])  # fmt: skip
refuse("ctc-blank", lambda t, x, n, m: ops.ctc_loss(t, x, n, m), "but the blank 0", specs=SEQUENCES,
       inputs=[np.zeros((1, 4), "int32"), np.zeros((1, 8, 6), "float32"), np.array([4], "int32"), np.array([8], "int32")])  # fmt: skip

test_operations = CASES.test()
test_refusals = REFUSALS.test()
