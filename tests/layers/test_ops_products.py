"""Operations that multiply and sum, of linear algebra, norms and attention, against TensorFlow."""

from __future__ import annotations

import numpy as np
from keras import ops
from keras.src.ops import numpy as classes
from operations import FLOAT, OperationCases, with_specials, with_ties, within

CASES = OperationCases()
ran = CASES.fixture()

VECTOR = ((4,), "float32")
MATRIX = ((3, 3), "float32")
INTEGERS = [((3, 4), "int32"), ((4, 2), "int32")]
WEIGHTS = np.random.default_rng(1).normal(size=(4, 2)).astype("float32")

CASES.op(
    "matmul",
    lambda x, y: [x @ y, ops.matmul(y, x), x @ WEIGHTS, ops.matmul(x, WEIGHTS[:, 0]), ops.matmul(WEIGHTS.T, y)],
    FLOAT, ((4, 3), "float32"), tolerance=2e-5,
)  # fmt: skip
CASES.op("matmul-broadcast", lambda x, y: x @ y, ((2, 3, 4), "float32"), ((1, 4, 2), "float32"))
CASES.op("matmul-integers", ops.matmul, *INTEGERS)
CASES.op("matmul-int8", ops.matmul, ((3, 4), "int8"), ((4, 2), "int8"))
CASES.op("matmul-promotion", ops.matmul, ((3, 4), "int32"), ((4, 2), "float32"))
CASES.op("dot", lambda x, y: [ops.dot(x, WEIGHTS), ops.dot(x, WEIGHTS[:, 1]), ops.dot(x, y), ops.dot(x, 2.0)],
         FLOAT, ((4, 2), "float32"))  # fmt: skip
CASES.op("dot-integers", lambda x, y: ops.dot(x[0], y[0]), *INTEGERS)
CASES.op("inner", lambda x, y: [ops.inner(x, y), ops.inner(x, WEIGHTS.T)], FLOAT, VECTOR)
CASES.op("vdot", lambda x, y: [ops.vdot(x, y), ops.vdot(x[0], y[0])], VECTOR, VECTOR)
CASES.op(
    "outer", lambda x, y: [ops.outer(x, y), ops.outer(x[0], WEIGHTS)], VECTOR, ((2,), "float32")
)
CASES.op("outer-integers", ops.outer, ((4,), "int32"), ((2,), "int64"))
CASES.op("kron", lambda x, y: [ops.kron(x, y), ops.kron(x, WEIGHTS)], VECTOR, ((2,), "float32"))
CASES.op(
    "tensordot",
    lambda x, y: [
        ops.tensordot(x, WEIGHTS, axes=1), ops.tensordot(x, WEIGHTS, axes=[[2], [0]]),
        ops.tensordot(x, y, axes=[[1, 2], [2, 1]]), ops.tensordot(x, ops.reshape(x[0], (3, 4, 1))),
        ops.tensordot(x, WEIGHTS, axes=0), ops.tensordot(x, x, axes=3), ops.tensordot(x, y, axes=[[-1], [1]]),
    ],
    FLOAT, ((4, 3), "float32"), rows=3, tolerance=2e-5,
)  # fmt: skip
CASES.op("tensordot-integers", lambda x, y: ops.tensordot(x, y, axes=[[2], [1]]), *INTEGERS)
CASES.op(
    "cross",
    lambda x, y, z: [ops.cross(x, y), ops.cross(x, z), ops.cross(z, z * 2.0 + 1.0), ops.cross(y, x, axis=1)],
    ((3,), "float32"), ((3,), "float32"), ((2,), "float32"),
)  # fmt: skip
CASES.op(
    "cross-axes",
    lambda x, y: [ops.cross(x, y, axisa=1, axisb=2, axisc=1), ops.cross(x, x * 2.0 + 1.0, axis=1)],
    ((3, 4), "float32"), ((4, 3), "float32"),
)  # fmt: skip
EINSUMS = {
    "bij,bjk->bik": [FLOAT, ((4, 2), "float32")],
    "bij,bjk": [FLOAT, ((4, 2), "float32")],
    "bij,bij->b": [FLOAT, FLOAT],
    "bij->bji": [FLOAT],
    "bij->bi": [FLOAT],
    "...ij,...jk->...ik": [FLOAT, ((4, 2), "float32")],
    "bqhd,bkhd->bhqk": [((3, 2, 4), "float32"), ((5, 2, 4), "float32")],
    "bi,bj,bk->bijk": [VECTOR, ((2,), "float32"), ((3,), "float32")],
    "bii->bi": [MATRIX],
}
for equation, specs in EINSUMS.items():
    CASES.op(f"einsum-{equation}", lambda *x, e=equation: ops.einsum(e, *x), *specs)
CASES.op("einsum-constant", lambda x: ops.einsum("bij,jk->bik", x, WEIGHTS))
CASES.op("einsum-integers", lambda x, y: ops.einsum("bij,bjk->bik", x, y), *INTEGERS)


def definite(model) -> list[np.ndarray]:
    """Matrices that are symmetric, positive and well-conditioned, then vectors."""
    rng = np.random.default_rng(7)
    inputs = []
    for spec in model.inputs:
        x = rng.normal(size=(5, *spec.shape[1:])).astype("float32")
        square = len(x.shape) == 3 and x.shape[1] == x.shape[2]
        inputs.append(x @ x.transpose(0, 2, 1) + 2 * np.eye(3, dtype="float32") if square else x)
    return inputs


RIGHT = [MATRIX, ((3, 2), "float32"), ((3,), "float32")]
CASES.op("det", ops.linalg.det, MATRIX, tolerance=3e-5)
CASES.op("logdet", ops.logdet, MATRIX, inputs=definite, tolerance=3e-5)
CASES.op("slogdet", lambda x: list(ops.slogdet(x)), MATRIX, tolerance=3e-5)
CASES.op("inv", ops.linalg.inv, MATRIX, inputs=definite, tolerance=3e-5)
CASES.op(
    "cholesky",
    lambda x: [ops.linalg.cholesky(x), ops.linalg.cholesky(x, upper=True)],
    MATRIX,
    inputs=definite,
    tolerance=3e-5,
)
CASES.op("qr", lambda x: list(ops.qr(x)), ((4, 3), "float32"), tolerance=3e-5)
# TensorFlow has no gradient of it.
CASES.op(
    "qr-complete",
    lambda x: list(ops.qr(ops.stop_gradient(x), mode="complete")),
    ((4, 3), "float32"),
    tolerance=3e-5,
)
CASES.op("solve", lambda a, b, v: [ops.solve(a, b), ops.solve(a, v)], *RIGHT, inputs=definite,
         tolerance=3e-5)  # fmt: skip
CASES.op(
    "solve_triangular",
    lambda a, b, v: [
        ops.linalg.solve_triangular(a, b), ops.linalg.solve_triangular(a, b, lower=True),
        ops.linalg.solve_triangular(a, v, lower=True),
    ],
    *RIGHT, inputs=definite, tolerance=3e-5,
)  # fmt: skip
CASES.op(
    "norm",
    lambda x: [
        ops.norm(x[0]), ops.norm(ops.ravel(x)), *(ops.norm(x, axis=a, keepdims=k) for a in (1, -1, (1, 2)) for k in (False, True)),
        *(ops.norm(x, ord=n, axis=-1) for n in (1, 2, 3, 0, -1, np.inf, -np.inf)),
        *(ops.norm(x, ord=n, axis=(1, 2)) for n in ("fro", 1, -1, np.inf, -np.inf)),
    ],
    inputs=within(0.3, 2), tolerance=2e-5,
)  # fmt: skip
CASES.op(
    "normalize",
    lambda x: [
        ops.normalize(x), ops.normalize(x, axis=1), ops.normalize(x, axis=-1, order=1),
        ops.normalize(x, axis=1, order=3), ops.normalize(x, epsilon=3.0),
    ],
    tolerance=2e-5,
)  # fmt: skip
SCALE, SHIFT = (np.random.default_rng(n).normal(size=4).astype("float32") for n in (2, 3))
CASES.op(
    "layer_norm",
    lambda x, g: [
        ops.nn.layer_normalization(x), ops.nn.layer_normalization(x, SCALE, SHIFT),
        ops.nn.layer_normalization(x, axis=1), ops.nn.layer_normalization(x, axis=(1, 2), epsilon=0.1),
        ops.nn.layer_normalization(x, g[0], g[1]),
    ],
    FLOAT, VECTOR, tolerance=2e-5,
)  # fmt: skip
CASES.op(
    "rms_norm",
    lambda x, g: [
        ops.rms_normalization(x), ops.rms_normalization(x, SCALE), ops.rms_normalization(x, g[0]),
        ops.rms_normalization(x, axis=1, epsilon=0.2), ops.rms_normalization(x, axis=(1, 2)),
    ],
    FLOAT, VECTOR, tolerance=2e-5,
)  # fmt: skip
CASES.op(
    "batch_norm",
    lambda x, m, v: [
        ops.batch_normalization(x, m[0], v[0], axis=-1),
        ops.batch_normalization(x, m[0], v[0], axis=-1, offset=SHIFT, scale=SCALE, epsilon=0.1),
        ops.batch_normalization(x, m[0, :3], v[0, :3], axis=1),
    ],
    FLOAT, VECTOR, VECTOR, inputs=within(0.4, 2), tolerance=2e-5,
)  # fmt: skip

HEADS = ((6, 2, 4), "float32")
OTHER = ((6, 2, 3), "float32")
CASES.op(
    "attention",
    lambda q, k, v: [
        ops.dot_product_attention(q, k, v), ops.dot_product_attention(q, k, v, is_causal=True),
        ops.dot_product_attention(q, k, v, scale=0.3), ops.dot_product_attention(q, k, v, flash_attention=False),
    ],
    HEADS, HEADS, OTHER, tolerance=2e-5,
)  # fmt: skip
CASES.op(
    "attention-masked",
    lambda q, k, v, b, m: [
        ops.dot_product_attention(q, k, v, mask=m), ops.dot_product_attention(q, k, v, bias=b),
        ops.dot_product_attention(q, k, v, bias=b, mask=m, is_causal=True),
    ],
    HEADS, HEADS, OTHER, ((2, 6, 6), "float32"), ((1, 6, 6), "bool"), tolerance=2e-5,
)  # fmt: skip

# Classes that `keras.ops` has no function of, or another, but whose configs may be read.
CASES.op("abs", lambda x: [classes.Abs()(x), classes.Conj()(x)], inputs=with_ties)
CASES.op("empty_like", lambda x: [classes.EmptyLike()(x), classes.EmptyLike(dtype="int32")(x)])
CASES.op(
    "full",
    lambda x: [
        classes.Full((5, 3, 4))(x[:, :1]), classes.Full((2, 5, 3, 4))(x),
        classes.Full((5, 3, 4), dtype="int32")(x),
    ],
    inputs=with_ties,
)  # fmt: skip
for options in [{}, {"rtol": 0.3}, {"atol": 9.0}, {"equal_nan": True}]:
    CASES.op(f"allclose-{options}", lambda a, b, o=options: [
        ops.allclose(a, b, **o), ops.allclose(a, a, **o), ops.allclose(a, a + 0.2, **o),
    ], FLOAT, FLOAT, inputs=with_specials)  # fmt: skip
    CASES.op(f"allclose-numbers-{options}", lambda a, o=options: [
        ops.allclose(a, a, **o), ops.allclose(a, a + 0.2, **o), ops.allclose(a, a * 1.1, **o),
    ], inputs=with_ties)  # fmt: skip

test_operations = CASES.test()
