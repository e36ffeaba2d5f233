"""Operations that make, count and choose numbers, against TensorFlow."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from operations import FLOAT, OperationCases, functional, with_ties, within
from refusal import Refusals

CASES = OperationCases()
ran = CASES.fixture()

INTEGERS = ["int32", "int64", "uint8", "int8", "int16"]
EVERY = ["float32", "float64", "float16", "bool", *INTEGERS]
VECTOR = ((3,), "float32")


def seen(results: object) -> list:
    """Results; those of float64 and float16 as float32, for factors of float32."""
    results = keras.tree.flatten(results)
    return [ops.cast(y, "float32") if y.dtype in ("float64", "float16") else y for y in results]


def in_dtype(call, dtype: str):
    """The operation on inputs that are cast first."""
    return lambda *inputs: seen(call(*[ops.cast(x, dtype) for x in inputs]))


for number in [0, 1, 2, 5]:
    for endpoint in [True, False]:
        options = {"num": number, "endpoint": endpoint}
        CASES.op(
            f"linspace-{number}-{endpoint}",
            lambda x, y, o=options: [
                ops.linspace(x, y, **o), ops.linspace(x, y, axis=-1, **o),
                ops.linspace(x, 3, axis=1, **o), ops.linspace(-1.5, y, **o),
            ],
            VECTOR, VECTOR,
        )  # fmt: skip
        CASES.op(
            f"logspace-{number}-{endpoint}",
            lambda x, y, o=options: [
                ops.logspace(x, y, **o), ops.logspace(x, y, base=2.5, axis=1, **o),
                ops.logspace(0, y, base=2, **o),
            ],
            VECTOR, VECTOR, inputs=within(-1.5, 1.5),
        )  # fmt: skip
        CASES.op(
            f"geomspace-{number}-{endpoint}",
            lambda x, y, o=options: [
                ops.geomspace(x, y, **o), ops.geomspace(-x, -y, **o), ops.geomspace(x, 7, **o),
                ops.geomspace(2, y, axis=-1, **o), ops.geomspace(x, [1.0, 2.0, 3.0], **o),
            ],
            VECTOR, VECTOR, inputs=within(0.3, 9),
        )  # fmt: skip
for dtype in EVERY:
    tolerance = {"tolerance": 2e-3} if dtype == "float16" else {}
    CASES.op(
        f"linspace-of-{dtype}",
        lambda x, y: seen([ops.linspace(x, y, num=4), ops.linspace(x, 2.5, num=4)]),
        ((3,), dtype), ((3,), "int32"), **tolerance,
    )  # fmt: skip
    if dtype in ("bool", "uint8"):
        continue
    CASES.op(
        f"linspace-to-{dtype}",
        lambda x, y, d=dtype: seen([
            ops.linspace(x * 5, y, num=7, dtype=d, endpoint=e) for e in (True, False)
        ]),
        VECTOR, VECTOR, **tolerance,
    )  # fmt: skip
CASES.op("logspace-integers", lambda x: ops.logspace(x, 4, num=3, base=3, dtype="int32"),
         ((3,), "int32"))  # fmt: skip
CASES.op("geomspace-float64", lambda x: seen(ops.geomspace(x, 9, num=5, dtype="float64")),
         ((3,), "float32"), inputs=within(0.3, 9))  # fmt: skip

for dtype in EVERY:
    tolerance = {"tolerance": 1e-2} if dtype == "float16" else {}
    CASES.op(
        f"vander-{dtype}",
        in_dtype(
            lambda x: [ops.vander(x), ops.vander(x, 3), ops.vander(x, N=4, increasing=True)], dtype
        ),
        ((), "float32"), inputs=within(1, 4), **tolerance,
    )  # fmt: skip
    CASES.op(
        f"corrcoef-{dtype}",
        in_dtype(ops.corrcoef, dtype), ((6,), "float32"), inputs=within(0, 9), **tolerance,
    )  # fmt: skip
    for n, m in [(6, 3), (6, 6), (5, 2), (3, 1), (2, 5)]:
        modes = ["same", "full", "valid"][: 3 if n >= m else 2]
        CASES.op(
            f"correlate-{n}-{m}-{dtype}",
            in_dtype(lambda x, y, k=modes: [ops.correlate(x[0], y[0], mode=w) for w in k], dtype),
            ((n,), "float32"), ((m,), "float32"), inputs=within(0, 5), **tolerance,
        )  # fmt: skip
CASES.op(
    "correlate-promotion",
    lambda x, y: ops.correlate(x[0], y[0]),
    ((4,), "int32"),
    ((3,), "float32"),
)
CASES.op("correlate-constant",
         lambda x: ops.correlate(x[0], np.array([1.0, 0.5, -2.0], "float32"), mode="full"),
         ((4,), "float32"))  # fmt: skip


def signs(x: keras.KerasTensor, y: keras.KerasTensor) -> list:
    """Two conditions of which one, both or none hold."""
    return [x > 0, y > 0]


CASES.op(
    "select",
    lambda x, y: [
        ops.select(signs(x, y), [x, y]), ops.select(signs(x, y), [x * 2, y], default=x - y),
        ops.select(signs(x, y), [x, 3.5], default=-1), ops.select([x > 0], [y]),
        ops.select([x[:, :1] > 0, y > 1], [x, y], default=2),
        ops.select([x, y], [x, y], default=7.0), ops.select(signs(x, y), [x, y[:, :1]]),
    ],
    FLOAT, FLOAT, inputs=with_ties,
)  # fmt: skip
for first in EVERY:
    for second in ["float32", "bool", "int32", "float16", "int8"]:
        CASES.op(
            f"select-{first}-{second}",
            lambda x, y, a=first, b=second: seen([
                ops.select(signs(x, y), [ops.cast(x, a), ops.cast(y, b)], default=d)
                for d in (0, 0.5, True)
            ]),
            FLOAT, FLOAT, inputs=within(0, 5),
        )  # fmt: skip

for kth in [0, 2, 7, 100, -3]:
    CASES.op(
        f"argpartition-{kth}",
        lambda x, y, k=kth: [ops.argpartition(y, k), ops.argpartition(x, k, axis=None)],
        FLOAT, ((), "float32"), inputs=within(-9, 9),
    )  # fmt: skip
    CASES.op(
        f"argpartition-ties-{kth}",
        lambda x, k=kth: ops.argpartition(x, k, axis=None),
        FLOAT, inputs=with_ties,
    )  # fmt: skip

UNIQUE = [
    {}, {"return_index": True}, {"return_inverse": True}, {"return_counts": True},
    {"return_index": True, "return_inverse": True, "return_counts": True},
]  # fmt: skip
for sorts in [True, False]:
    for sizes in [{}, {"size": 2}, {"size": 9, "fill_value": -1}, {"size": 40}]:
        for options in UNIQUE:
            chosen = {"sorted": sorts, **sizes, **options}
            name = "-".join(str(value) for value in chosen.items())
            CASES.op(
                f"unique-{name}",
                lambda x, o=chosen: keras.tree.flatten(ops.unique(x, **o)),
                ((2, 2), "int32"),
            )
            for axis in [0, 1, -1]:
                CASES.op(
                    f"unique-{axis}-{name}",
                    lambda x, o=chosen, a=axis: keras.tree.flatten(ops.unique(x, axis=a, **o)),
                    ((2, 2), "int32"),
                )
for dtype in ["float32", "int64", "uint8", "int8", "int16"]:
    CASES.op(
        f"unique-{dtype}",
        lambda x, d=dtype: ops.unique(ops.cast(ops.stop_gradient(x), d), size=9),
        ((2, 2), "float32"),
        inputs=with_ties,
    )

for shape in [(2, 3), (4,), (3, -1), (2, 3, 4)]:
    for dtype in ["int32", "int64"]:
        CASES.op(
            f"unravel_index-{shape}-{dtype}",
            lambda x, y, s=shape: [*ops.unravel_index(x * 7, s), *ops.unravel_index(y * 5, s)],
            ((2,), dtype), ((), dtype),
        )  # fmt: skip

VIEWED = ["float32", "int32", "float64", "int64", "float16", "int16", "int8", "uint8"]
for first in VIEWED:
    for second in VIEWED:
        CASES.op(
            f"view-{first}-{second}",
            # Bytes of integers are no NaN and no infinity in any dtype.
            lambda x, a=first, b=second: ops.cast(
                ops.view(ops.cast(ops.stop_gradient(x), a), b), "float32"
            ),
            ((2, 8), "float32"), inputs=within(1, 100),
        )  # fmt: skip
CASES.op("view-same", lambda x: ops.view(ops.stop_gradient(x)), ((), "float32"))
CASES.op("view-scalars", lambda x: ops.view(x, "float32"), ((), "int32"))
CASES.op("ndim", lambda x: x * ops.cast(ops.ndim(x), "float32"), ((2,), "float32"))

test_operations = CASES.test()

REFUSALS = Refusals()
messages = REFUSALS.fixture()
REFUSALS.add(
    "argpartition",
    lambda: functional(lambda x: ops.argpartition(x, 1), FLOAT),
    "Argpartition", "axis = null",
)  # fmt: skip
REFUSALS.add(
    "histogram",
    lambda: functional(lambda x: list(ops.histogram(x, 4)), ((), "float32")),
    "Histogram", "is not supported",
)  # fmt: skip
REFUSALS.add(
    "view", lambda: functional(lambda x: ops.view(x, "uint32"), FLOAT), "View", 'dtype = "uint32"'
)
REFUSALS.add(
    "bfloat16",
    lambda: functional(
        lambda x, y: ops.select([x > 0], [x], default=y), ((3,), "bfloat16"), ((3,), "float16")
    ),
    "Select", "bfloat16 and float16",
)  # fmt: skip
REFUSALS.add(
    "geomspace",
    lambda: functional(lambda x: ops.geomspace(x, 7, num=2, dtype="int32"), VECTOR),
    "Geomspace", 'dtype = "int32"', "floating-point",
)  # fmt: skip
REFUSALS.add(
    "correlate",
    lambda: functional(lambda x, y: ops.correlate(x[0], y[0]), VECTOR, ((5,), "float32")),
    "Correlate", "as long as x2",
)  # fmt: skip

test_refusals = REFUSALS.test()


@pytest.mark.parametrize("make", [
    lambda x: ops.arange(x), lambda x: ops.linspace(x, 2.0, retstep=True)[0],
])  # fmt: skip
def test_keras_records_no_such_call(make) -> None:
    """So nothing refuses them: a length or a step that is not known is not recorded."""
    with pytest.raises((ValueError, TypeError)):
        functional(make, ((), "float32"))
