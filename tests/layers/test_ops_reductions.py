"""Operations that reduce axes, run along one, sort and search, against TensorFlow."""

from __future__ import annotations

import numpy as np
from keras import ops
from operations import FLOAT, OperationCases, with_ties, within

CASES = OperationCases()
ran = CASES.fixture()

INTS = ["int8", "int32", "int64", "uint8", "bool"]
AXES = [None, 1, -1, (1, 2), (0, -1)]


def over(call, axes: list = AXES, **options):
    """The operation over each of several axes, which are kept or not."""
    return lambda x: [
        call(x, axis=axis, keepdims=keep, **options) for axis in axes for keep in (False, True)
    ]


def each(call):
    """The operation over the last axis of every input."""
    return lambda *inputs: [call(x, axis=-1) for x in inputs]


def with_nan(model) -> list[np.ndarray]:
    """Inputs with some NaN among them, in one row only NaN."""
    inputs = with_ties(model)
    for x in inputs:
        x[np.random.default_rng(8).uniform(size=x.shape) < 0.3] = np.nan
        x[1, 1] = np.nan
        x[:, 0, 0] = 1.5
    return inputs


def with_some_nan(model) -> list[np.ndarray]:
    """Inputs with NaN among them, in no row only NaN, and no two numbers the same."""
    inputs = within(-2, 2)(model)
    for x in inputs:
        x[np.random.default_rng(8).uniform(size=x.shape) < 0.3] = np.nan
        x[..., 1] = np.arange(x[..., 1].size).reshape(x[..., 1].shape) / 10
    return inputs


def only_nan(model) -> list[np.ndarray]:
    """Inputs of which the second row holds only NaN."""
    inputs = with_some_nan(model)
    for x in inputs:
        x[1] = np.nan
    return inputs


def every(dtypes: list[str]) -> list[tuple]:
    """One input of each dtype."""
    return [((2, 3), dtype) for dtype in dtypes]


# With the dtypes of integers that Keras takes.
REDUCTIONS = {
    "sum": INTS, "prod": INTS, "mean": INTS, "var": INTS, "std": INTS, "max": INTS, "min": INTS,
    "amax": INTS, "amin": INTS, "ptp": ["int32", "int64"], "all": INTS, "any": INTS,
    "logsumexp": [], "nansum": INTS, "nanprod": INTS, "nanmean": INTS,
    "nanvar": INTS, "nanstd": INTS, "nanmax": ["int32", "int64"], "nanmin": ["int32", "int64"],
    "median": INTS,
}  # fmt: skip
for name, dtypes in REDUCTIONS.items():
    call = getattr(ops, name)
    # Distinct numbers: shares of the gradient of ties are compared with `ties`.
    CASES.op(name, over(call), inputs=within(-2, 2), tolerance=2e-5)
    if dtypes:
        CASES.op(f"{name}-integers", each(call), *every(dtypes))
for name in ["max", "min", "amax", "amin", "all", "any", "median"]:
    CASES.op(f"{name}-ties", over(getattr(ops, name)), inputs=with_ties)
for name in ["nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"]:
    # Of values: gradients of slices that hold only NaN are NaN or 0 by accident.
    CASES.op(
        f"{name}-nan",
        lambda x, f=getattr(ops, name): over(f)(ops.stop_gradient(x)),
        inputs=with_nan,
    )
    CASES.op(f"{name}-numbers", lambda x, f=getattr(ops, name): f(x, axis=(1, 2)), inputs=with_ties)
CASES.op("count_nonzero", lambda x: [ops.count_nonzero(x, axis=a) for a in AXES], inputs=with_ties)
CASES.op("count_nonzero-integers", each(ops.count_nonzero), *every(INTS))
for name in ["max", "min"]:
    CASES.op(
        f"{name}-initial",
        lambda x, f=getattr(ops, name): [f(x, axis=1, initial=0.3), f(x, initial=-9)],
        inputs=within(-1, 1),
    )
POSITIONS = ["argmax", "argmin", "nanargmax", "nanargmin"]
for name in POSITIONS:
    call = getattr(ops, name)
    CASES.op(f"{name}-ties", over(call, [None, 1, -1, 0]), inputs=with_ties)
    CASES.op(f"{name}-nan", over(call, [1, -1]), inputs=with_nan)
CASES.op("sum-half", lambda a, b: [ops.cast(f(x, axis=1), "float32")
                                   for f in (ops.sum, ops.mean, ops.max, ops.std) for x in (a, b)],
         ((6,), "float16"), ((6,), "bfloat16"), tolerance=0.02)  # fmt: skip
CASES.op(
    "average",
    lambda x, w: [
        ops.average(x), ops.average(x, axis=1), ops.average(x, axis=-1),
        ops.average(x, axis=-1, weights=w), ops.average(x, axis=1, weights=np.array([1.0, 2.0, 0.5])),
    ],
    FLOAT, FLOAT, inputs=within(0.3, 2),
)  # fmt: skip
CASES.op("average-integers", lambda i, u: [ops.average(i, axis=1), ops.average(u, axis=1)],
         ((3,), "int32"), ((3,), "uint8"))  # fmt: skip
CASES.op(
    "moments",
    lambda x: [
        *ops.moments(x, axes=[1]), *ops.moments(x, axes=[0, 2], keepdims=True),
        *ops.moments(x, axes=[1, 2]), *ops.moments(x, axes=[0, 1], synchronized=True),
        *ops.moments(x, axes=[0, 2], keepdims=True, synchronized=True),
    ],
    tolerance=2e-5,
)  # fmt: skip

for name in ["cumsum", "cumprod", "nancumsum", "nancumprod"]:
    call = getattr(ops, name)
    CASES.op(name, lambda x, f=call: [f(x, axis=a) for a in (None, 0, 1, -1)],
             inputs=within(0.4, 1.6), tolerance=2e-5)  # fmt: skip
    CASES.op(f"{name}-dtypes", lambda i, u, f=call: [
        f(i, axis=1), f(u, axis=1), f(i, axis=1, dtype="float32"), f(u, axis=1, dtype="int32"),
    ], ((3,), "int32"), ((3,), "bool"))  # fmt: skip
for name in ["nancumsum", "nancumprod"]:
    CASES.op(f"{name}-nan", lambda x, f=getattr(ops, name): f(ops.stop_gradient(x), axis=-1),
             inputs=with_nan)  # fmt: skip
CASES.op(
    "diff", lambda x: [ops.diff(x), ops.diff(x, 2), ops.diff(x, axis=1), ops.diff(x, 2, axis=0)]
)
CASES.op("diff-integers", ops.diff, ((4,), "int32"))
CASES.op(
    "trapezoid",
    lambda x: [ops.trapezoid(x), ops.trapezoid(x, dx=0.5), ops.trapezoid(x, axis=1)],
)

CASES.op("sort", lambda x: [ops.sort(x), ops.sort(x, axis=1), ops.sort(x, axis=0)])
CASES.op("sort-integers", lambda *inputs: [ops.sort(x) for x in inputs],
         *every(["int32", "int64", "uint8"]))  # fmt: skip
CASES.op("argsort-ties", lambda x: [ops.argsort(x, axis=a) for a in (-1, 1, 0, None)],
         inputs=with_ties)  # fmt: skip
CASES.op(
    "top_k",
    lambda x: [*ops.top_k(x, 2), *ops.top_k(x, 1), *ops.top_k(x, 4), *ops.top_k(x, 3, sorted=True)],
)
CASES.op("top_k-ties", lambda x: list(ops.top_k(x, 3)), ((3, 6), "float32"), inputs=with_ties)
CASES.op(
    "in_top_k",
    lambda t, x: [ops.in_top_k(t[:, 0], x, k) for k in (1, 2, 4)],
    ((1,), "int32"), ((4,), "float32"),
)  # fmt: skip
EDGES = np.array([-1.0, -0.5, 0.0, 0.5, 1.5], dtype="float32")
CASES.op("searchsorted", lambda x: [ops.searchsorted(EDGES, x[:, 0, 0], side=side)
                                    for side in ("left", "right")], inputs=with_ties)  # fmt: skip
CASES.op(
    "digitize", lambda x: [ops.digitize(x, EDGES), ops.digitize(x, EDGES[2:3])], inputs=with_ties
)
CASES.op("digitize-integers", lambda x: ops.digitize(x, EDGES), ((4,), "int32"))
CASES.op("bincount", lambda x: [ops.bincount(x), ops.bincount(x, minlength=7)], ((6,), "int32"))
CASES.op("bincount-of-a-vector", lambda x: ops.bincount(x[:, 0], minlength=3), ((6,), "int32"))
CASES.op("nonzero", lambda x: list(ops.nonzero(x)), inputs=with_ties)
for method in ["linear", "lower", "higher", "midpoint", "nearest"]:
    CASES.op(
        f"percentile-{method}",
        lambda x, m=method: [
            ops.percentile(x, 30, axis=1, method=m), ops.percentile(x, [0, 55.5, 100], method=m),
            ops.percentile(x, 72, axis=(1, 2), method=m, keepdims=True),
        ],
    )  # fmt: skip
for name in ["nanmedian", "nanquantile", "nanpercentile"]:
    call = getattr(ops, name)
    for method in ["linear", "lower", "higher", "midpoint", "nearest"]:
        if name == "nanmedian" and method != "linear":
            continue
        levels = {
            "nanmedian": [()],
            "nanquantile": [(0.3,), ([0.0, 0.555, 1.0],), ([0.4],)],
            "nanpercentile": [(30,), ([0, 55.5, 100],), (np.array([40.0], "float32"),)],
        }[name]
        options = {} if name == "nanmedian" else {"method": method}
        for axes, keep in [(None, True), (2, False), ([0, 1], True)]:
            inputs = within(-2, 2) if axes is None else with_some_nan
            CASES.op(
                f"{name}-{method}-{axes}",
                lambda x, f=call, q=levels, a=axes, k=keep, o=options: [
                    f(x, *level, axis=a, keepdims=k, **o) for level in q
                ],
                inputs=inputs,
            )
CASES.op("nanmedian-integers", lambda *all: [ops.nanmedian(x) for x in all], *every(INTS))
# Rows that hold only NaN, of which TensorFlow gives one result, whatever is asked for.
CASES.op("nanmedian-nan", lambda x: ops.nanmedian(x, axis=(1, 2)), inputs=only_nan)
CASES.op(
    "nanquantile-tensor",
    lambda x, q: [ops.nanquantile(x, q[0], axis=1), ops.nanpercentile(x, q[1] * 50, axis=-1)],
    FLOAT, ((2,), "float32"), inputs=within(0, 1),
)  # fmt: skip
CASES.op(
    "quantile",
    lambda x: [
        ops.quantile(x, 0.3, axis=1), ops.quantile(x, [0.0, 0.555, 1.0]),
        ops.quantile(x, 0.72, axis=(0, 2), keepdims=True), ops.quantile(x, [0.25, 0.5], axis=-1),
    ],
)  # fmt: skip

test_operations = CASES.test()
