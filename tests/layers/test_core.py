"""Core layers against TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers as L
from oracle import Cases, build_forward, our_path, run_forward, sequential
from refusal import Refusals, change
from safetensors.numpy import load_file, save_file

CASES = Cases()
ran = CASES.fixture()
REFUSALS = Refusals()
messages = REFUSALS.fixture()

# Halves of 11 bits and brain floats of 8, and a few roundings.
HALF = {"mixed_float16": 5e-3, "mixed_bfloat16": 4e-2}


def back_to_float32() -> keras.Layer:
    """Ends a model of mixed precision, for NumPy has no bfloat16."""
    return L.Activation("linear", dtype="float32")


# Nested models, whose calls are numbered from 0 by layers and from 1 by the model's outputs


def nested(outputs: Callable) -> keras.Model:
    """A model with what `outputs` makes of an inner model and the input."""
    x = keras.Input((4,), name="inner_input")
    inner = keras.Model(x, keras.ops.sin(x) * 2.0, name="inner")
    x = keras.Input((4,), name="input")
    return keras.Model(x, outputs(inner, x))


CASES.add("nested-inside-and-output", lambda: nested(lambda f, x: [y := f(x), keras.ops.relu(y)]))
CASES.add("nested-inside", lambda: nested(lambda f, x: keras.ops.relu(f(x))))
CASES.add("nested-twice", lambda: nested(lambda f, x: [f(y := f(x)), L.ReLU()(y)]))
CASES.add("nested-output-first", lambda: nested(lambda f, x: [f(x), L.ReLU()(f(L.ReLU()(x)))]))

# Dense

for shape in [(6,), (3, 6), (2, 3, 6), (None, 6), (2, None, 6)]:
    for bias in [False, True]:
        CASES.add(
            f"dense-{shape}-{bias}",
            lambda s=shape, b=bias: sequential(s, L.Dense(4, use_bias=b, activation="tanh")),
        )
for dtype in ["int8", "int16", "int32", "int64", "uint8", "uint16", "bool"]:
    CASES.add(f"dense-{dtype}", lambda d=dtype: sequential((3, 6), L.Dense(4), L.Dense(2), dtype=d))
for policy, tolerance in HALF.items():
    CASES.add(
        f"dense-{policy}",
        lambda p=policy: sequential(
            (3, 6), L.Dense(4, activation="relu", dtype=p), L.Dense(3, dtype=p), back_to_float32()
        ),
        tolerance=tolerance,
    )


def shared_dense() -> keras.Model:
    """A Dense called on shapes that differ in an axis that it does not care for."""
    a, b = keras.Input((3, 6)), keras.Input((4, 6))
    dense = L.Dense(6, name="shared")
    return keras.Model([a, b], [dense(dense(a)), dense(b)])


CASES.add("dense-shared", shared_dense)

REFUSALS.add(
    "dense_on_one_axis",
    lambda: sequential((6,), L.Dense(4, name="d")),
    'layer "d" (Dense)',
    "at least 2 axes",
    edit=lambda document: document["config"]["layers"][0]["config"].update(batch_shape=[None]),
)
for option, value in [("lora_rank", 2), ("quantization_config", {"mode": "int8"})]:
    REFUSALS.add(
        f"dense-{option}",
        lambda: sequential((6,), L.Dense(4, name="d")),
        'layer "d" (Dense)',
        option,
        edit=change("Dense", **{option: value}),
    )

# EinsumDense

EQUATIONS = [
    # equation, input, output_shape, bias_axes
    ("ab,bc->ac", (6,), 4, [None, "c"]),
    ("abc,cd->abd", (3, 6), (None, 5), [None, "d"]),
    ("abc,cd->abd", (None, 6), (None, 5), ["d"]),
    ("abc,cd->abd", (3, 6), (3, 5), ["bd"]),
    ("abc,cde->abde", (3, 6), (None, 2, 4), [None, "e", "d", "de", "ed"]),
    ("abcd,cde->abe", (3, 2, 6), (None, 5), [None, "e"]),
    ("abc,dc->abd", (3, 6), (None, 5), ["d"]),
    ("abc,ced->abde", (3, 6), (None, 2, 4), ["de"]),
    ("abc,cd->adb", (3, 6), (5, None), [None, "d"]),
    ("abc,bd->acd", (3, 6), (None, 5), ["d"]),
    ("abc,cb->a", (3, 6), (), [None]),
    ("abc,c->ab", (3, 6), (None,), [None]),
    # Shared by input, kernel and output; only in the input.
    ("abc,bcd->abd", (3, 6), (3, 5), [None, "d", "bd"]),
    ("abc,b->abc", (3, 6), (3, None), [None]),
    ("abc,cd->ad", (3, 6), (5,), [None, "d"]),
    # Capital letters, and letters in any order.
    ("BTD,DNH->BTNH", (3, 6), (None, 2, 4), ["NH"]),
    ("zyx,xw->zyw", (3, 6), (None, 4), ["w"]),
    ("...x,xy->...y", (6,), 4, ["y"]),
    ("...x,xy->...y", (3, 6), 4, [None, "y"]),
    ("...x,xyz->...yz", (3, 6), (2, 4), ["yz", "z"]),
    # Keras reverses the elided axes in the shape that it announces, so they are equal here.
    ("...x,xy->...y", (3, 3, 6), 4, ["y"]),
    ("...bc,cd->...bd", (2, 3, 6), (3, 4), ["d", "bd"]),
    ("ab...,bc->ac...", (6, 3, 2), 4, [None, "c"]),
    ("abc...,cd->abd...", (3, 6, 2), (None, 4), ["d"]),
    ("abc...,cd->abd...", (3, 6), (None, 4), ["d"]),
]
for equation, shape, output_shape, all_bias_axes in EQUATIONS:
    for bias_axes in all_bias_axes:
        CASES.add(
            f"einsum-{equation}-{shape}-{output_shape}-{bias_axes}",
            lambda e=equation, s=shape, o=output_shape, b=bias_axes: sequential(
                s, L.EinsumDense(e, o, activation="tanh", bias_axes=b)
            ),
        )
for dtype in ["int32", "uint8"]:
    CASES.add(
        f"einsum-{dtype}",
        lambda d=dtype: sequential(
            (3, 6), L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"), dtype=d
        ),
    )
for policy, tolerance in HALF.items():
    CASES.add(
        f"einsum-{policy}",
        lambda p=policy: sequential(
            (3, 6),
            L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de", dtype=p),
            back_to_float32(),
        ),
        tolerance=tolerance,
    )

for equation, part in [
    ("abc->ab", "of the form"),
    ("abc,cdf->abd", "kernel's 'f'"),
    ("abcd,de->abce", "3 axes"),
]:
    REFUSALS.add(
        f"einsum-{equation}",
        lambda: sequential((3, 6), L.EinsumDense("abc,cd->abd", (None, 5), name="e")),
        'layer "e" (EinsumDense)',
        part,
        edit=change("EinsumDense", equation=equation),
    )
REFUSALS.add(
    "einsum-lora",
    lambda: sequential((3, 6), L.EinsumDense("abc,cd->abd", (None, 5), name="e")),
    'layer "e" (EinsumDense)',
    "lora_rank",
    edit=change("EinsumDense", lora_rank=2),
)

# Embedding

ROWS = 7


def ids_of(dtype: str, low: int = 0) -> callable:
    """Ids of a dtype, some of them repeated."""

    def make(model: keras.Model) -> list[np.ndarray]:
        shape = (5, *[4 if size is None else size for size in model.inputs[0].shape[1:]])
        ids = np.random.default_rng(3).integers(low, ROWS, shape)
        return [ids.astype(dtype)]

    return make


def embedding(shape: tuple, dtype: str, **options) -> keras.Model:
    """An Embedding with what makes its gradients differ."""
    return sequential(shape, L.Embedding(ROWS, 3, **options), L.Dense(2), dtype=dtype)


for dtype in [
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float16", "float32",
]:  # fmt: skip
    CASES.add(
        f"embedding-{dtype}",
        lambda d=dtype: embedding((4,), d, mask_zero=True),
        inputs=ids_of(dtype),
    )
for shape in [(), (4,), (None,), (2, 3)]:
    for mask_zero in [False, True]:
        CASES.add(
            f"embedding-{shape}-{mask_zero}",
            lambda s=shape, m=mask_zero: sequential(
                s, L.Embedding(ROWS, 3, mask_zero=m), dtype="int32"
            ),
            inputs=ids_of("int32"),
        )
for dtype in ["int32", "int64", "float32"]:
    CASES.add(
        f"embedding-negative-{dtype}",
        lambda d=dtype: embedding((4,), d),
        inputs=ids_of(dtype, low=-ROWS),
    )
CASES.add(
    "embedding-fractions",
    lambda: embedding((4,), "float32", mask_zero=True),
    inputs=lambda _: [np.array([[0.0, 0.9, -0.9, 6.9], [1.5, 2.0, -1.5, 3.999]], "float32")],
)
CASES.add("embedding-bool", lambda: embedding((4,), "bool"))
for policy, tolerance in HALF.items():
    for dtype in ["int32", "float32"]:
        CASES.add(
            f"embedding-{policy}-{dtype}",
            lambda p=policy, d=dtype: sequential(
                (4,), L.Embedding(ROWS, 3, mask_zero=True, dtype=p), back_to_float32(), dtype=d
            ),
            inputs=ids_of(dtype),
            tolerance=tolerance,
        )


def tied() -> keras.Model:
    """One matrix for two inputs."""
    a, b = keras.Input((4,), dtype="int32"), keras.Input((2,), dtype="int64")
    shared = L.Embedding(ROWS, 3, mask_zero=True)
    return keras.Model([a, b], [shared(a), L.Dense(2)(shared(b))])


CASES.add("embedding-tied", tied)

for id_, dtype in [
    (ROWS, "int32"), (-ROWS - 1, "int64"), (16_777_217, "int32"), (2**40 + 1, "int64"),
    (ROWS, "float32"),
]:  # fmt: skip
    REFUSALS.add(
        f"embedding-{id_}-{dtype}",
        lambda d=dtype: sequential((3,), L.Embedding(ROWS, 3, name="words"), dtype=d),
        'layer "words" (Embedding)',
        f"id {id_} ",
        f"input_dim = {ROWS}",
        inputs=[np.array([[0, id_, 1]], dtype)],
    )

# ReversibleEmbedding


def reversible(policy: str = "float32", **options) -> keras.Model:
    """A language model without anything between."""
    ids = keras.Input((4,), dtype="int32")
    layer = L.ReversibleEmbedding(ROWS, 3, dtype=policy, **options)
    vectors = layer(ids)
    logits = layer(L.Dense(3, dtype=policy, activation="tanh")(vectors), reverse=True)
    return keras.Model(ids, [L.Identity(dtype="float32")(x) for x in [vectors, logits]])


REVERSIBLE = {
    "tied": {},
    "untied": {"tie_weights": False},
    "capped": {"logit_soft_cap": 0.7},
    "capped_untied": {"logit_soft_cap": 2, "tie_weights": False},
    "masked": {"mask_zero": True},
}
for name, options in REVERSIBLE.items():
    CASES.add(f"reversible-{name}", lambda o=options: reversible(**o))
for policy, tolerance in HALF.items():
    for reverse_dtype in [None, "float32"]:
        CASES.add(
            f"reversible-{policy}-{reverse_dtype}",
            lambda p=policy, r=reverse_dtype: reversible(p, reverse_dtype=r, tie_weights=r is None),
            tolerance=tolerance,
        )


def reverse_only() -> keras.Model:
    """A projection by the transposed embeddings of ids that nobody asked for."""
    x = keras.Input((2, 3))
    return keras.Model(x, L.ReversibleEmbedding(ROWS, 3)(x, reverse=True))


CASES.add("reversible-reverse_only", reverse_only)

# Masking, Identity, Lambda


def steps(value: float, dtype: str = "float32") -> callable:
    """Sequences in which some steps, and some features of others, have a value."""

    def make(_: keras.Model) -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        x = rng.integers(1, 5, (5, 4, 3)).astype(dtype)
        x[0, 1:] = value
        x[1, 2, :2] = value
        x[3] = value
        return [x]

    return make


for value in [0.0, 1.5, -2.0]:
    CASES.add(
        f"masking-{value}",
        lambda v=value: sequential((4, 3), L.Masking(mask_value=v), L.Dense(2)),
        inputs=steps(value),
    )
CASES.add(
    "masking-alone", lambda: sequential((None, 3), L.Masking(mask_value=2)), inputs=steps(2.0)
)
CASES.add(
    "masking-integers",
    lambda: sequential((4, 3), L.Masking(mask_value=3), dtype="int32"),
    inputs=steps(3, "int32"),
)
CASES.add(
    "masking-twice",
    lambda: sequential((4, 3), L.Masking(2.0), L.Masking(0.0), L.Dense(2)),
    inputs=steps(2.0),
)
CASES.add(
    "masking-mixed_float16",
    lambda: sequential((4, 3), L.Masking(0.1, dtype="mixed_float16")),
    inputs=steps(0.1),
)
REFUSALS.add(
    "masking-array",
    lambda: sequential((4, 3), L.Masking(1.0, name="m")),
    'layer "m" (Masking)',
    "mask_value",
    edit=change("Masking", mask_value=[1.0, 2.0, 3.0]),
)


def identities() -> keras.Model:
    """Identity of one tensor with a mask, and of several."""
    a, b = keras.Input((4, 3)), keras.Input((2,), dtype="int32")
    masked = L.Identity()(L.Masking()(a))
    c, d = L.Identity()([L.Dense(2)(masked), b])
    return keras.Model([a, b], [masked, c, d])


CASES.add("identity", identities)
CASES.add(
    "identity-mixed",
    lambda: sequential((4, 3), L.Identity(dtype="mixed_float16"), L.Dense(2)),
    tolerance=5e-3,
)

REFUSALS.add(
    "lambda",
    lambda: sequential((4,), L.Identity(name="f")),
    'layer "f" (Lambda)',
    "Python function",
    "keras.ops",
    edit=lambda document: document["config"]["layers"][1].update(class_name="Lambda"),
)

test_layers = CASES.test()
test_refusals = REFUSALS.test()

INITIALIZERS = ["glorot_uniform", "glorot_normal", "he_normal", "lecun_uniform"]


# Equation, shapes of input and output. A convolution's kernel of these shapes has other fans.
FANS = {
    "abc,cde->abde": ((5, 60), (5, 40, 30)),
    "abc,dec->abde": ((5, 60), (5, 40, 30)),
    "abcd,cde->abe": ((5, 30, 8), (5, 40)),
}


@pytest.mark.parametrize("equation", FANS)
def test_einsum_kernels_start_with_the_fans_of_the_equation(tmp_path, equation) -> None:
    shape, output = FANS[equation]
    source = keras.Input(shape)
    outputs = [
        L.EinsumDense(equation, output, kernel_initializer=rule, name=rule)(source)
        for rule in INITIALIZERS
    ]
    model = keras.Model(source, outputs)
    case = tmp_path / "case"
    case.mkdir()
    (case / "model.json").write_text(model.to_json())
    tensors = {f"g/{at}": np.ones((2, *y.shape[1:]), "float32") for at, y in enumerate(outputs)}
    tensors["x/0"] = np.zeros((2, *shape), "float32")
    save_file(tensors, case / "inputs.safetensors")
    build_forward()
    run_forward(tmp_path, "--initialize", "1")
    actual = load_file(case / "outputs.safetensors")
    for weight in model.weights:
        value, expected = actual[f"updated/{our_path(model, weight)}"], weight.numpy()
        np.testing.assert_allclose(value.std(), expected.std(), rtol=0.03, err_msg=weight.path)
        np.testing.assert_allclose(np.abs(value).max(), np.abs(expected).max(), rtol=0.03)
