"""Operations on each element of one tensor, or of two that broadcast, against TensorFlow."""

from __future__ import annotations

import numpy as np
from keras import ops
from operations import FLOAT, OperationCases, with_specials, with_ties, within

CASES = OperationCases()
ran = CASES.fixture()

INTS = ["int8", "int16", "int32", "int64", "uint8", "bool"]
HALVES = ["float16", "bfloat16"]


def every(dtypes: list[str], shape: tuple = (2, 3)) -> list[tuple]:
    """One input of each dtype."""
    return [(shape, dtype) for dtype in dtypes]


def each(call):
    """The operation of each input."""
    return lambda *inputs: [call(x) for x in inputs]


def wide(call):
    """As `each`, of half precision, and widened so that files hold it."""
    return lambda *inputs: [ops.cast(call(x), "float32") for x in inputs]


# Functions that turn integers into floating-point numbers, with the range they are tried in.
FLOATING = {
    "exp": (-2, 2), "exp2": (-2, 2), "expm1": (-2, 2), "log": (0.1, 3), "log10": (0.1, 3),
    "log1p": (-0.8, 3), "log2": (0.1, 3), "sqrt": (0.1, 3), "sin": (-3, 3), "cos": (-3, 3),
    "tan": (-1.2, 1.2), "sinh": (-2, 2), "cosh": (-2, 2), "tanh": (-2, 2),
    "arcsin": (-0.9, 0.9), "arccos": (-0.9, 0.9), "arctan": (-3, 3), "arcsinh": (-3, 3),
    "arccosh": (1.1, 3), "arctanh": (-0.9, 0.9), "sinc": (0.1, 2), "deg2rad": (-180, 180),
    "rad2deg": (-3, 3), "cbrt": (0.1, 3), "i0": (-2, 2), "fabs": (-2, 2), "angle": (-2, 2),
    "floor": (-3, 3), "ceil": (-3, 3),
}  # fmt: skip

for name, (low, high) in FLOATING.items():
    call = getattr(ops, name)
    CASES.op(name, each(call), inputs=within(low, high), tolerance=2e-5)
    if name not in {"arccosh", "arctanh", "arcsin", "arccos", "i0", "angle", "cbrt"}:
        CASES.op(
            f"{name}-integers", each(call), *every(["int8", "int32", "int64", "uint8", "bool"])
        )
    if name not in {"i0", "angle", "sinc"}:
        CASES.op(
            f"{name}-half", wide(call), *every(HALVES), inputs=within(low, high), tolerance=0.03
        )

KEEPING = {
    "absolute": INTS, "negative": ["int8", "int32", "int64"], "sign": ["int8", "int32", "int64"],
    "square": INTS, "conjugate": [], "real": [], "copy": INTS, "stop_gradient": INTS,
    "trunc": INTS, "round": ["int32", "int64"], "relu": ["int32", "int64"], "relu6": ["int32"],
    "isfinite": [], "isinf": [], "isnan": [], "isneginf": INTS, "isposinf": INTS,
    "isreal": INTS, "signbit": ["int32", "bool"], "logical_not": INTS, "nan_to_num": INTS,
    "zeros_like": INTS, "ones_like": INTS, "size": INTS,
}  # fmt: skip

for name, dtypes in KEEPING.items():
    call = getattr(ops, name)
    CASES.op(name, each(call), inputs=with_ties)
    if dtypes:
        CASES.op(f"{name}-integers", each(call), *every(dtypes))

for name in ["isfinite", "isinf", "isnan", "isneginf", "isposinf", "signbit", "nan_to_num"]:
    CASES.op(f"{name}-specials", each(getattr(ops, name)), inputs=with_specials)

CASES.op("imag", each(ops.imag))
CASES.op("reciprocal", each(ops.reciprocal), inputs=within(0.3, 3))
CASES.op("rsqrt", each(ops.rsqrt), inputs=within(0.3, 3))
CASES.op("erf", each(ops.erf))
CASES.op("erfc", each(ops.erfc))
CASES.op("erfinv", each(ops.erfinv), inputs=within(-0.9, 0.9), tolerance=3e-5)
CASES.op("bitwise_not", each(ops.bitwise_not), *every(["int8", "int32", "int64", "uint8"]))
CASES.op("bitwise_invert", each(ops.bitwise_invert), *every(["int8", "int32", "int64", "uint8"]))
CASES.op(
    "round-decimals",
    lambda x: [ops.round(x, decimals=n) for n in (1, 2, -1)],
    inputs=within(-40, 40),
)
CASES.op(
    "round-decimals-integers",
    lambda x, y: [ops.round(x * 7, decimals=-1), ops.round(y, decimals=2)],
    *every(["int32", "int64"]),
)
CASES.op("nan_to_num-options", lambda x: ops.nan_to_num(x, nan=2.0, posinf=7.0, neginf=-7.0),
         inputs=with_specials)  # fmt: skip
CASES.op("clip", lambda x: [ops.clip(x, -0.5, 0.5), ops.clip(x, 0, 1)], inputs=with_ties)
CASES.op("clip-integers", each(lambda x: ops.clip(x, 1, 2)), *every(["int8", "int32", "bool"]))

ACTIVATIONS = {
    "relu": [{}], "relu6": [{}], "sigmoid": [{}], "softplus": [{}], "softsign": [{}], "silu": [{}],
    "selu": [{}], "hard_sigmoid": [{}], "hard_silu": [{}], "log_sigmoid": [{}],
    "sparse_sigmoid": [{}], "sparse_plus": [{}], "tanh_shrink": [{}], "hard_tanh": [{}],
    "elu": [{}, {"alpha": 0.4}], "leaky_relu": [{}, {"negative_slope": 0.1}],
    "celu": [{}, {"alpha": 0.6}], "gelu": [{}, {"approximate": False}],
    "soft_shrink": [{}, {"threshold": 0.3}], "hard_shrink": [{}, {"threshold": 0.3}],
    "squareplus": [{}, {"b": 2}], "softmax": [{}, {"axis": 1}, {"axis": -2}],
    "log_softmax": [{}, {"axis": 1}], "sparsemax": [{}, {"axis": 1}], "glu": [{}, {"axis": 2}],
    "threshold": [{"threshold": 0.2, "default_value": -3.0}],
}  # fmt: skip

for name, variants in ACTIVATIONS.items():
    call = getattr(ops, name)
    CASES.op(
        name + "-options", lambda x, c=call, v=variants: [c(x, **o) for o in v], tolerance=2e-5
    )

SMOOTH = [
    "add", "subtract", "multiply", "divide", "true_divide", "divide_no_nan", "power", "arctan2",
    "hypot", "logaddexp", "logaddexp2", "mod", "fmod", "floor_divide",
]  # fmt: skip
# Those that are also tried where both operands are equal.
CHOOSING = [
    "maximum", "minimum", "fmax", "fmin", "equal", "not_equal", "greater", "greater_equal",
    "less", "less_equal", "logical_and", "logical_or", "logical_xor", "heaviside", "nextafter",
]  # fmt: skip
VECTORS = [((3, 4), "float32"), ((1, 4), "float32"), ((3, 1), "float32")]
SCALARS = [2, 0.5, np.array([0.5, 1.5, 2.5, 0.75], dtype="float32")]
# Keras itself takes no number as a constant of these.
ARRAYS = SCALARS[2:]
WITHOUT_SCALARS = ["hypot", "heaviside"]

for name in SMOOTH + CHOOSING:
    call = getattr(ops, name)
    # Away from 0, where quotients and angles have their poles.
    CASES.op(
        f"{name}-broadcast",
        lambda a, b, c, f=call: [f(a, b), f(b, a), f(b, c)],
        *VECTORS,
        inputs=within(0.3, 2.5),
        tolerance=2e-5,
    )
    CASES.op(
        f"{name}-constants",
        lambda a, f=call, constants=ARRAYS if name in WITHOUT_SCALARS else SCALARS: [
            *(f(a, b) for b in constants),
            *(f(b, a) for b in constants),
        ],
        inputs=within(0.3, 2.5),
        tolerance=2e-5,
    )
for name in CHOOSING:
    CASES.op(f"{name}-ties", getattr(ops, name), FLOAT, FLOAT, inputs=with_ties)
for name in ["maximum", "minimum", "fmax", "fmin", "equal", "greater", "divide_no_nan"]:
    CASES.op(f"{name}-specials", getattr(ops, name), FLOAT, FLOAT, inputs=with_specials)

# One input of each; what is divided by is made positive.
MIXED = every(["int32", "float32", "int64", "uint8", "int8"])


def promoted(call):
    """The operation of operands of different dtypes."""
    return lambda i, f, l, u, s: [
        call(i, f), call(l, i + 1), call(u, s + 1), call(s, i + 1), call(l, f + 5.0),
        call(i, 2), call(u, 2), call(s, 2.5), call(f, l + 1), call(3, i + 1), call(2.5, l + 1),
    ]  # fmt: skip


PROMOTING = [
    "add", "subtract", "multiply", "maximum", "minimum", "divide", "arctan2", "logaddexp",
    "mod", "equal", "less", "logical_and", "fmax",
]  # fmt: skip
for name in PROMOTING:
    CASES.op(f"{name}-promotion", promoted(getattr(ops, name)), *MIXED, tolerance=2e-5)

INTEGERS = every(["int32", "int64", "uint8", "int8"])
for name in ["bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm", "floor_divide", "fmod"]:
    CASES.op(
        f"{name}-integers",
        lambda i, l, u, s, f=getattr(ops, name): [
            f(i, l + 1),
            f(u, s + 1),
            f(s, i + 2),
            f(u, u + 1),
        ],
        *INTEGERS,
    )
for name in ["left_shift", "right_shift", "bitwise_left_shift", "bitwise_right_shift"]:
    CASES.op(
        f"{name}-integers",
        lambda i, l, u, s, f=getattr(ops, name): [f(i + 8, 2), f(u + 3, 1), f(l, i), f(s, s)],
        *INTEGERS,
    )
CASES.op("power-integers", lambda i, l: [ops.power(i, 2), i**3, 2**i, ops.power(l, i)],
         *every(["int32", "int64"]))  # fmt: skip
CASES.op("power-constants-negative", lambda x: [x**2, x**3, x**-1, x**1], inputs=with_ties)
# Away from 0, where TensorFlow's gradient of it is NaN.
CASES.op("power-of-zero", lambda x: x**0, inputs=within(0.3, 2.5))
CASES.op("ldexp", ops.ldexp, FLOAT, ((3, 4), "int32"))
CASES.op("half", lambda a, b: [ops.cast(y, "float32") for y in (a + b, a * 2, a / 3.0, b + 1, a + a)],
         *every(HALVES), tolerance=0.02)  # fmt: skip

for options in [{}, {"rtol": 0.3}, {"atol": 0.5}, {"equal_nan": True}]:
    CASES.op(f"isclose-{options}", lambda a, b, o=options: ops.isclose(a, b, **o),
             FLOAT, FLOAT, inputs=with_specials)  # fmt: skip
CASES.op("isclose-integers", ops.isclose, *every(["int32", "int64"]))
CASES.op("isin", lambda x, y: [ops.isin(x, [1, 3]), ops.isin(x, y), ops.isin(x, y, invert=True)],
         *every(["int32", "int64"]))  # fmt: skip

CASES.op(
    "where",
    lambda m, a, b: [
        ops.where(m, a, b), ops.where(m, a, -1e9), ops.where(m, 1, b), ops.where(m, a, -np.inf),
        ops.where(a > b, a, b), ops.where(m[:, :1], a, b), ops.where(m, 1, 0), ops.where(m, 1, 2.5),
    ],
    ((3, 4), "bool"), FLOAT, FLOAT,
)  # fmt: skip
CASES.op("where-promotion", lambda m, i, u: [ops.where(m, i, u), ops.where(m, u, 2.5)],
         *every(["bool", "int32", "uint8"]))  # fmt: skip

CASTS = ["bool", "int8", "int16", "int32", "int64", "uint8", "float32", "float64", "float16"]
CASES.op("cast", lambda x: [ops.cast(x, dtype) for dtype in CASTS], inputs=within(0, 100))
CASES.op("cast-integers", lambda x: [ops.cast(x, dtype) for dtype in CASTS], ((3, 4), "int32"))
CASES.op("cast-bool", lambda x: [ops.cast(x, dtype) for dtype in CASTS], ((3, 4), "bool"))
CASES.op("cast-widths", lambda x: [ops.cast(x, d) for d in ("int32", "float64", "bool", "int8")],
         inputs=within(0, 100))  # fmt: skip
CASES.op("array", lambda x: [ops.convert_to_tensor(x), ops.array(x, dtype="float64")])
CASES.op("convert_to_tensor", lambda x: [ops.convert_to_tensor(x), ops.array(x, dtype="float16")])
CASES.op(
    "like",
    lambda x, i: [
        ops.zeros_like(x), ops.ones_like(i), ops.zeros_like(x, dtype="int32"), ops.full_like(x, 3),
        ops.full_like(i, 2, dtype="float32"), ops.full_like(x, i[:, :, :1]),
    ],
    FLOAT, ((3, 4), "int32"),
)  # fmt: skip

OPERATORS = {
    "arithmetic": lambda x, y: [x + y, x - y, x * y, x / y, x // y, x % y, x**y, -x, abs(x)],
    "reflected": lambda x, _: [1 + x, 1 - x, 2 * x, 2 / x, 2 // x, 2 % x, 2**x],
    # `==` of Keras's symbolic tensors is that of Python's objects.
    "comparisons": lambda x, y: [x != y, x < y, x <= y, x > y, x >= y],
    "logic": lambda x, y: [(x > 1) & (y > 1), (x > 1) | (y > 1), (x > 1) ^ (y > 1), ~(x > 1)],
}
for name, call in OPERATORS.items():
    CASES.op(f"operators-{name}", call, FLOAT, FLOAT, inputs=within(0.3, 2.5), tolerance=2e-5)

test_operations = CASES.test()
