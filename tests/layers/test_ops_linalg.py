"""Decompositions of matrices and what is found by them, against TensorFlow.

Eigenvectors and singular vectors have free signs: compared is what does not depend on them.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from operations import OperationCases, functional
from refusal import Refusals

CASES = OperationCases()
ran = CASES.fixture()

SIDES = [(1, 1), (3, 3), (4, 3), (3, 4), (5, 2), (1, 4)]
FLOAT32 = "float32"
# Conditions of matrices of normal numbers multiply rounding.
EXACT = {"tolerance": 2e-5}


def swapped(x: keras.KerasTensor) -> keras.KerasTensor:
    """The matrices, transposed."""
    return ops.swapaxes(x, -1, -2)


def apart(model: keras.Model) -> list[np.ndarray]:
    """Matrices whose singular values lie apart, else gradients of the vectors are not exact."""
    rng = np.random.default_rng(9)
    inputs = []
    for spec in model.inputs:
        shape = [5 if size is None else size for size in spec.shape]
        if len(shape) < 2 or len(shape) == 2 and spec.shape[0] is None and shape[1] > 5:
            inputs.append(rng.normal(size=shape).astype(spec.dtype))
            continue
        u, s, v = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
        s = np.linspace(1, 2.5, s.shape[-1]) * rng.uniform(0.9, 1.1, s.shape[:-1] + (1,))
        inputs.append((u * s[..., None, :] @ v).astype(spec.dtype))
    return inputs


def cast(call, dtype: str):
    """The operation in a dtype; results as float32, for gradients with factors of float32."""

    def run(*inputs: keras.KerasTensor) -> list:
        results = call(*[ops.cast(x, dtype) for x in inputs])
        results = keras.tree.flatten(results)
        return [ops.cast(y, FLOAT32) if y.dtype == "float64" else y for y in results]

    return run


def rebuilt(x: keras.KerasTensor, full: bool) -> list:
    """The singular values, and the matrix made of them and the vectors by a function of them."""
    u, s, v = ops.svd(x, full_matrices=full)
    k = s.shape[-1]
    u, v = u[..., :k], v[..., :k, :]
    return [s, (u * ops.expand_dims(s * s + 1.0, -2)) @ v, u @ swapped(u), swapped(v) @ v]


def spectrum(x: keras.KerasTensor) -> list:
    """Eigenvalues, and a function of the matrix by them and the vectors."""
    values, vectors = ops.eigh(x)
    return [values, (vectors * ops.expand_dims(ops.sin(values), -2)) @ swapped(vectors)]


for rows, columns in SIDES:
    for dtype in [FLOAT32, "float64"]:
        shape = ((rows, columns), FLOAT32)
        name = f"{rows}x{columns}-{dtype}"
        # TensorFlow has no gradients of vectors of much larger bases.
        for full in [False, True]:
            CASES.op(
                f"svd-{full}-{name}",
                cast(lambda x, f=full, far=abs(rows - columns) > 1: rebuilt(
                    ops.stop_gradient(x) if f and far else x, f), dtype),
                shape, inputs=apart, **EXACT,
            )  # fmt: skip
        CASES.op(
            f"singular-values-{name}",
            cast(lambda x: ops.svd(x, compute_uv=False), dtype),
            shape, inputs=apart, **EXACT,
        )  # fmt: skip
        CASES.op(
            f"pinv-{name}",
            cast(lambda x: [ops.pinv(x), ops.pinv(x, rcond=0.6)], dtype),
            shape, inputs=apart, **EXACT,
        )  # fmt: skip
        CASES.op(
            f"matrix_rank-{name}",
            cast(lambda x: [
                ops.matrix_rank(x), ops.matrix_rank(x, tol=1.7), ops.matrix_rank(x @ swapped(x)),
                ops.matrix_rank(swapped(x) @ x),
            ], dtype),
            shape, inputs=apart,
        )  # fmt: skip
        for right in [(rows,), (rows, 1), (rows, 3)]:
            CASES.op(
                f"lstsq-{name}-{right}",
                cast(lambda a, b: [ops.lstsq(a[0], b[0], rcond=r) for r in (None, 0.6, -1)], dtype),
                shape, (right, FLOAT32), inputs=apart, **EXACT,
            )  # fmt: skip
    CASES.op(
        f"norm-{rows}x{columns}",
        lambda x: [
            ops.norm(x, ord=order, axis=(1, 2), keepdims=keep)
            for order in ("nuc", 2, -2)
            for keep in (False, True)
        ],
        ((rows, columns), FLOAT32), inputs=apart, **EXACT,
    )  # fmt: skip
CASES.op("norm-axes", lambda x: ops.norm(x, ord=2, axis=(2, 1), keepdims=False), ((3, 4), FLOAT32),
         inputs=apart, **EXACT)  # fmt: skip
# The batch is the matrix.
CASES.op("lstsq-rows", lambda a, b: ops.lstsq(a, b), ((3,), FLOAT32), ((2,), FLOAT32), **EXACT)
CASES.op("svd-batches", lambda x: rebuilt(x, False), ((2, 3, 4), FLOAT32), inputs=apart, **EXACT)
CASES.op("pinv-batches", ops.pinv, ((2, 3, 4), FLOAT32), inputs=apart, **EXACT)

for size in [1, 2, 4]:
    for dtype in [FLOAT32, "float64"]:
        square = ((size, size), FLOAT32)
        CASES.op(f"eigh-{size}-{dtype}", cast(spectrum, dtype), square, inputs=apart, **EXACT)
        for upper in [False, True]:
            CASES.op(
                f"cholesky_inverse-{size}-{dtype}-{upper}",
                cast(lambda x, u=upper: ops.cholesky_inverse(x, upper=u), dtype),
                square, inputs=apart, **EXACT,
            )  # fmt: skip
        CASES.op(
            f"lu_factor-{size}-{dtype}",
            # TensorFlow has no gradient of it.
            cast(lambda x: list(ops.lu_factor(ops.stop_gradient(x[0]))), dtype),
            square, inputs=apart, **EXACT,
        )  # fmt: skip
CASES.op("eigh-batches", spectrum, ((2, 3, 3), FLOAT32), inputs=apart, **EXACT)

for x, y in [((3, 4), (2, 4)), ((1, 1), (5, 1)), ((2, 3, 4), (1, 6, 4))]:
    CASES.op(f"cdist-{x}-{y}", ops.cdist, (x, FLOAT32), (y, FLOAT32))
CASES.op("cdist-half", lambda x, y: ops.cast(ops.cdist(ops.cast(x, "float16"), ops.cast(y, "float16")), FLOAT32),
         ((3, 4), FLOAT32), ((2, 4), FLOAT32), tolerance=2e-3)  # fmt: skip
CASES.op("cdist-integers", lambda x, y: ops.cdist(x, y), ((3, 4), "int32"), ((2, 4), "int32"))
CASES.op("cdist-constant", lambda x: ops.cdist(x, np.eye(4, dtype=FLOAT32)), ((3, 4), FLOAT32))
CASES.op("cdist-unknown", ops.cdist, ((None, 4), FLOAT32), ((2, 4), FLOAT32))

test_operations = CASES.test()

REFUSALS = Refusals()
messages = REFUSALS.fixture()
REFUSALS.add(
    "eig",
    lambda: functional(lambda x: list(ops.eig(x)), ((3, 3), FLOAT32)),
    "Eig", "is not supported",
)  # fmt: skip
for name in ["svd", "pinv", "eigh", "matrix_rank"]:
    REFUSALS.add(
        f"integers-{name}",
        lambda f=getattr(ops, name): functional(
            lambda x: keras.tree.flatten(f(x)), ((3, 3), "int32")
        ),
        "floating-point numbers, got int32",
    )
REFUSALS.add(
    "lu-batch",
    lambda: functional(lambda x: list(ops.lu_factor(x)), ((3, 3), FLOAT32)),
    "LuFactor", "2 axes",
)  # fmt: skip
REFUSALS.add(
    "thresholds",
    lambda: functional(lambda x: ops.pinv(x, rcond=[0.1, 0.2]), ((3, 3), FLOAT32)),
    "Pinv", "rcond = [0.1,0.2]", "a number or null",
)  # fmt: skip

test_refusals = REFUSALS.test()
