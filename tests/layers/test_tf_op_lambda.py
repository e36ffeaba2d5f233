"""TensorFlow's functions as layers of Keras 2's functional models, against Keras 2 itself.

`tf_keras` is Keras 2 for today's TensorFlow. It builds each model, records the calls as layers of
class `TFOpLambda` and runs it; the example reads the model's JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
import tf_keras
from safetensors.numpy import save_file
from tf_keras import layers as L

Inputs = list[tuple[tuple, str]]

FLOAT: Inputs = [((4,), "float32")]
MATRIX: Inputs = [((3, 4), "float32")]
PAIR: Inputs = [((3, 4), "float32"), ((3, 4), "float32")]
IMAGE: Inputs = [((4, 6, 4), "float32")]
INTEGER: Inputs = [((4,), "int32")]
INTEGERS: Inputs = [((3, 4), "int32"), ((3, 4), "int32")]
TRUTH: Inputs = [((3, 4), "bool"), ((3, 4), "bool")]


@dataclass
class Function:
    """A function of a model's inputs."""

    call: Callable
    inputs: Inputs


CASES: dict[str, Function] = {}


def add(name: str, call: Callable, inputs: Inputs = MATRIX) -> None:
    """Add a case."""
    assert name not in CASES, name
    CASES[name] = Function(call, inputs)


def positive(x):
    """Numbers above a half."""
    return tf.abs(x) + 0.5


for each in (
    tf.abs, tf.acosh, tf.asinh, tf.atan, tf.math.ceil, tf.cos, tf.cosh, tf.nn.elu, tf.math.erf,
    tf.exp, tf.math.expm1, tf.floor, tf.identity, tf.math.is_finite, tf.math.is_inf,
    tf.math.is_nan, tf.math.log, tf.math.log1p, tf.math.log_sigmoid, tf.negative,
    tf.math.reciprocal, tf.nn.relu, tf.nn.relu6, tf.round, tf.math.rsqrt, tf.nn.selu, tf.sigmoid,
    tf.sign, tf.nn.silu, tf.sin, tf.sinh, tf.nn.softplus, tf.nn.softsign, tf.sqrt, tf.square,
    tf.stop_gradient, tf.tan, tf.tanh, tf.nn.gelu, tf.nn.leaky_relu, tf.nn.softmax,
    tf.nn.log_softmax, tf.convert_to_tensor, tf.zeros_like, tf.ones_like,
):  # fmt: skip
    shifted = each in (tf.acosh, tf.math.log, tf.math.log1p, tf.math.rsqrt, tf.sqrt)
    add(
        each.__name__,
        (lambda x, f=each: f(positive(x) + 1.0) + x) if shifted else (lambda x, f=each: f(x * 2.0)),
    )
add("asin", lambda x: tf.asin(x / 5.0) + tf.acos(x / 6.0) * tf.atanh(x / 7.0))

for each in (
    tf.add, tf.subtract, tf.multiply, tf.divide, tf.maximum, tf.minimum, tf.math.floordiv,
    tf.math.floormod, tf.equal, tf.not_equal, tf.greater, tf.greater_equal, tf.less,
    tf.less_equal, tf.math.divide_no_nan, tf.math.squared_difference, tf.atan2,
):  # fmt: skip
    add(f"{each.__name__}_of_two", each, PAIR)
    add(f"{each.__name__}_with_number", lambda x, f=each: f(x, 0.7))
add("pow", lambda x, y: positive(x) ** y + x**3, PAIR)
add("pow_of_number", lambda x: 2**x)
add("operators", lambda x, y: (x + y) * (2.0 - x) / (abs(y) + 1) - x % 3 + (-y) // 2 + 1 / x, PAIR)
add("floor_div", lambda x: x // 0.5 + 3.0 // positive(x))
add("mod_of_number", lambda x: 5.0 % positive(x))
add("array", lambda x: x + np.array([1.0, 2.0, 3.0, 4.0], "float32"))
add("array_first", lambda x: tf.constant([1.0, 2.0, 3.0, 4.0]) - x * np.ones((3, 1), "float32"))
add("integers", lambda x, y: [x + y, x * y - 2, x // (y + 1), x % 3, -x, abs(x)], INTEGERS)
add("integer_array", lambda x, y: [x + np.array([1, 2, 3, 4]), tf.maximum(x, y) ** 2], INTEGERS)
add("compared", lambda x, y: [x > y, x <= 2, x < y, tf.equal(x, 1)], INTEGERS)
add("logic", lambda x, y: [x & y, x | ~y, tf.math.logical_xor(x, y)], TRUTH)
add(
    "truths",
    lambda x, y: [tf.reduce_any(x, 1), tf.reduce_all(y, [1, 2]), tf.cast(x, "float32")],
    TRUTH,
)

for each in (
    tf.reduce_sum, tf.reduce_mean, tf.reduce_max, tf.reduce_min, tf.reduce_prod,
    tf.math.reduce_std, tf.math.reduce_variance, tf.reduce_logsumexp,
):  # fmt: skip
    add(
        each.__name__,
        lambda x, f=each: [f(x, 1), f(x, axis=[1, 2], keepdims=True), x * f(x), f(x, -1)],
    )
add(
    "reduced_integers",
    lambda x, y: [tf.reduce_sum(x, 1), tf.reduce_max(y, 2), tf.reduce_prod(x, 1)],
    INTEGERS,
)
add("add_n", lambda x, y: tf.add_n([x, y, x * 2.0]) + tf.add_n([x, y]), PAIR)
add("argmax", lambda x: [tf.argmax(x, 1), tf.argmax(x, -1, output_type=tf.int32), tf.argmin(x, 2)])
add("argmax_over_rows", lambda x: tf.argmax(x) + tf.argmax(x, axis=0))
add(
    "l2_normalize",
    lambda x: tf.nn.l2_normalize(tf.nn.relu(x), -1) + tf.math.l2_normalize(x, [1, 2]),
)
add(
    "l2_normalize_zeros",
    lambda x: tf.nn.l2_normalize(x * 0.0, -1, epsilon=1e-3) + tf.math.l2_normalize(x),
)
add(
    "cumsum",
    lambda x: tf.cumsum(x, 1) + tf.cumsum(x, axis=-1, reverse=True) + tf.math.cumprod(x, 2),
)
add("cumsum_over_rows", tf.cumsum)
add("top_k", lambda x: [tf.math.top_k(x, 2).values, tf.nn.top_k(x, 3)[1], tf.math.top_k(x)[0]])
add("gelu_tanh", lambda x: tf.nn.gelu(x, approximate=True))
add("leaky_relu_slope", lambda x: tf.nn.leaky_relu(x, alpha=0.3) + tf.nn.leaky_relu(x, 0.1))
add("softmax_axis", lambda x: tf.nn.softmax(x, axis=1) + tf.nn.log_softmax(x, 1))

add("concat", lambda x, y: [tf.concat([x, y], 1), tf.concat([x, y, x], axis=-1)], PAIR)
add("concat_constant", lambda x: tf.concat([x, tf.ones_like(x)], 2))
add("stack", lambda x, y: [tf.stack([x, y], axis=1), tf.stack([x, y], -1)], PAIR)
add("stack_rows", lambda x, y: tf.reduce_sum(tf.stack([x, y]), 0), PAIR)
add("unstack", lambda x: [*tf.unstack(x, axis=1), tf.unstack(x, 4, -1)[2]])
add(
    "split",
    lambda x: [*tf.split(x, 2, axis=-1), *tf.split(x, [1, 2], 1), *tf.split(x, [1, 2, -1], 2)],
)
add("reshape", lambda x: [tf.reshape(x, (-1, 2, 6)), tf.reshape(x, [-1, 12])])
add("reshape_by_shape", lambda x: tf.reshape(x, (tf.shape(x)[0], 2, 6)) * 2.0)
add("transpose", lambda x: [tf.transpose(x, [0, 2, 1]), tf.transpose(tf.transpose(x))])
add(
    "expand_and_squeeze",
    lambda x: [
        tf.expand_dims(x, 1),
        tf.squeeze(x[..., tf.newaxis], -1),
        tf.squeeze(x[:, None, None], [1, 2]),
    ],
)
add("tile", lambda x: [tf.tile(x, [1, 2, 3]), tf.repeat(x, 2, axis=1), tf.repeat(x, [1, 2, 1], 1)])
add(
    "pad",
    lambda x: [
        tf.pad(x, [[0, 0], [1, 2], [0, 1]]),
        tf.pad(x, [[0, 0], [1, 0], [0, 1]], constant_values=2.5),
    ],
)
add(
    "pad_modes",
    lambda x: [
        tf.pad(x, [[0, 0], [1, 2], [0, 1]], "REFLECT"),
        tf.pad(x, [[0, 0], [1, 2], [0, 1]], mode="symmetric"),
    ],
)
add("reverse", lambda x: tf.reverse(x, [1]) + tf.roll(x, 1, 2) + tf.roll(x, [1, -1], [1, 2]))
add("broadcast_to", lambda x: tf.broadcast_to(x[:, :1], (5, 3, 4)))
add(
    "items",
    lambda x: [x[:, 1], x[..., 0], x[:, 1:, ::2], x[:, ::-1], x[..., None, -2:], x[:, -1, None]],
)
add("slice", lambda x: [tf.slice(x, [0, 1, 0], [-1, 2, 3]), tf.slice(x, (0, 0, 1), (-1, -1, 2))])
add(
    "gather",
    lambda x: [tf.gather(x, [2, 0], axis=1), tf.gather(x, 1, axis=2), tf.gather(x, [1, 0])],
)
add(
    "gather_of_constant",
    lambda x: tf.gather(tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]), x),
    INTEGER,
)
add(
    "one_hot",
    lambda x: [tf.one_hot(x, 3), tf.one_hot(x, 5, dtype="int32"), tf.one_hot(x, 4, axis=1)],
    INTEGER,
)
add(
    "where",
    lambda x, y: [tf.where(x > y, x, y), tf.where(x > 0.5, x * 2.0, 0.0), tf.where(x < 0, 1.0, y)],
    PAIR,
)
add("clip", lambda x: tf.clip_by_value(x, -0.5, 1.0) + tf.clip_by_value(x, 0, 1))
add("clip_integers", lambda x: tf.clip_by_value(x, 1, 2), INTEGER)
add(
    "cast",
    lambda x: [
        tf.cast(x * 2, tf.int32),
        tf.cast(x, "float16"),
        tf.cast(x > 0, tf.float32),
        tf.cast(x, "bool"),
    ],
)
add("half", lambda x: tf.cast(tf.nn.relu(tf.cast(x, "float16") * 2.0 + 1), "float32"))
add("likes", lambda x: [tf.zeros_like(x, dtype=tf.int32), tf.ones_like(x, "float16")])
add(
    "matmul",
    lambda x, y: [tf.matmul(x, y, transpose_b=True), tf.matmul(x, y, transpose_a=True)],
    PAIR,
)
add("matmul_operator", lambda x, y: x @ tf.transpose(y, [0, 2, 1]), PAIR)
add(
    "matmul_constant",
    lambda x: [
        tf.matmul(x, tf.constant(np.eye(4, 2, dtype="float32"))),
        tf.matmul(tf.constant([[1.0, 2.0, 3.0]]), x),
    ],
)
add("tensordot", lambda x: tf.tensordot(x, tf.constant(np.eye(4, 2, dtype="float32")), 1))
add(
    "resize",
    lambda x: [tf.image.resize(x, (8, 9)), tf.image.resize(x, [2, 3], method="nearest")],
    IMAGE,
)
add(
    "resize_others",
    lambda x: [tf.image.resize(x, (3, 3), "bicubic"), tf.image.resize(x, (3, 4), antialias=True)],
    IMAGE,
)
add(
    "resize_integers",
    lambda x: [tf.image.resize(x, (8, 9)), tf.image.resize(x, [2, 3], method="nearest")],
    [((4, 6, 1), "int32")],
)
add("depth_to_space", lambda x: [tf.nn.depth_to_space(x, 2), tf.nn.space_to_depth(x, 2)], IMAGE)
add(
    "backend",
    lambda x: (
        tf_keras.backend.mean(x, axis=1) + tf_keras.backend.sqrt(tf_keras.backend.sum(x**2, axis=1))
    ),
)
add(
    "activations",
    lambda x: (
        tf_keras.activations.gelu(x)
        + tf_keras.activations.relu(x, max_value=6)
        + tf_keras.activations.swish(x)
    ),
)


def attention(x):
    """Scores of a head, with a mask from lengths that is made of TensorFlow's functions."""
    query, key, value = (
        L.Dense(4, name="query")(x),
        L.Dense(4, name="key")(x),
        L.Dense(4, name="value")(x),
    )
    scores = tf.matmul(query, key, transpose_b=True) / tf.sqrt(4.0)
    scores = scores - 1e9 * tf.cast(x[:, tf.newaxis, :, 0] > 0.5, tf.float32)
    return L.Dense(2, name="out")(tf.matmul(tf.nn.softmax(scores), value))


def branches(x):
    """Layers on both sides of functions, one of which becomes several operations: then Keras 3
    orders `left` before `right_1`, which Keras 2 and its files have the other way round.
    """
    left = tf.nn.l2_normalize(L.Dense(4, name="left")(x), -1)
    right = L.Dense(4, name="right_2")(tf.nn.relu(L.Dense(4, name="right_1")(x)))
    return L.Dense(4, name="last")(left * right)


def embedded(x):
    """A mask ends at a function, unless that gives its input back."""
    x = L.Embedding(4, 3, mask_zero=True, name="embedding")(x)
    same = [tf.cast(x, "float32"), tf.convert_to_tensor(x), tf.add_n([x])]
    others = [tf.identity(x), x * 1.0, tf.add_n([x, x]), x[:]]
    return [L.GlobalAveragePooling1D()(each) for each in [*same, *others]]


add("attention", attention)
add("branches", branches)
add("embedded", embedded, INTEGER)
add("nested", lambda x: tf.nn.relu(nested()(tf.nn.relu(x) + 1.0)) * 2.0)


def sequential(x):
    """A Sequential model that is called twice."""
    inner = tf_keras.Sequential([tf_keras.Input((3, 4)), L.Dense(4, name="dense")], name="inner")
    y = inner(tf.nn.relu(x))
    return [y, tf.nn.relu(inner(y * 2.0))]


def twice(x):
    """A functional model whose calls are outputs and inputs."""
    inner = nested()
    y = inner(x)
    return [y, L.ReLU()(y), inner(L.ReLU()(x))]


add("nested_sequential", sequential)
add("nested_twice", twice)


def nested() -> tf_keras.Model:
    """A model that is a layer, with functions inside."""
    x = tf_keras.Input((3, 4), name="inner")
    return tf_keras.Model(x, L.Dense(2, name="dense")(tf.square(x)) + 1.0, name="nested")


def build(function: Function) -> tf_keras.Model:
    """The model of a case, with random weights."""
    tf_keras.utils.set_random_seed(3)
    inputs = [tf_keras.Input(shape, dtype=dtype) for shape, dtype in function.inputs]
    model = tf_keras.Model(inputs, function.call(*inputs))
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0.0, 0.4, weight.shape) for weight in model.weights])
    return model


def inputs_of(function: Function) -> list[np.ndarray]:
    """Random numbers for each input."""
    rng = np.random.default_rng(1)
    shapes = [((5, *shape), dtype) for shape, dtype in function.inputs]
    return [
        rng.normal(size=shape).astype(dtype) if dtype == "float32"
        else rng.integers(0, 2 if dtype == "bool" else 4, shape).astype(dtype)
        for shape, dtype in shapes
    ]  # fmt: skip


def path_of(model: tf_keras.Model, weight: tf.Variable) -> str:
    """Our path of a weight of Keras 2, which names it without the models that are layers."""
    path = weight.name.removesuffix(":0")
    for layer in model.layers:
        if isinstance(layer, tf_keras.Model) and any(weight is each for each in layer.weights):
            return f"{layer.name}/{path}"
    return path


def write(folder: Path, function: Function, *, legacy: bool = False) -> tf_keras.Model:
    """Write a case's model, as JSON with weights or in the legacy `.h5` format, and its inputs."""
    folder.mkdir()
    model = build(function)
    if legacy:
        model.save(folder / "model.h5")
        (folder / "model.h5").rename(folder / "model.keras")
    else:
        weights = {path_of(model, each): each.numpy() for each in model.weights}
        (folder / "model.json").write_text(model.to_json())
        save_file(weights, folder / "weights.safetensors")
    save_file(oracle.given(inputs_of(function), folder), folder / "inputs.safetensors")
    return model


def prepare(folder: Path, function: Function, *, legacy: bool) -> oracle.Ran:
    """Write a case's files, and run it in Keras 2."""
    model, inputs = write(folder, function, legacy=legacy), inputs_of(function)
    tensors = oracle.given(inputs, folder)
    expected: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(2)
    values = [tf.constant(x) for x in inputs]
    floats = {at: value for at, value in enumerate(values) if value.dtype.is_floating}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(list(floats.values()))
        loss = tf.constant(0.0)
        for at, y in enumerate(tf.nest.flatten(model(values if len(values) > 1 else values[0]))):
            expected[f"y/{at}"] = expected[f"training/{at}"] = y.numpy()
            if y.dtype.is_floating:
                tensors[f"g/{at}"] = rng.normal(size=y.shape).astype("float32")
                loss += tf.reduce_sum(tf.cast(y, "float32") * tensors[f"g/{at}"])
    expected["losses"] = np.float32(0.0)
    for weight in model.weights:
        expected[f"updated/{path_of(model, weight)}"] = weight.numpy()
    named = {f"input/{at}": value for at, value in floats.items()}
    named |= {f"gradient/{path_of(model, each)}": each for each in model.trainable_weights}
    for name, value in named.items():
        gradient = tape.gradient(loss, value)
        if gradient is not None:
            expected[name] = tf.convert_to_tensor(gradient).numpy()
    save_file(tensors, folder / "inputs.safetensors")
    return oracle.Ran(oracle.Case(lambda: model), folder, model, inputs, expected)


def chosen() -> list[str]:
    """The cases that this run compares."""
    return list(CASES) if oracle.EVERYTHING else list(CASES)[:: len(CASES) // oracle.PART]


# What Keras 2 records without what it needs, what Keras has no equal for, or has with another
# result; and parts of the message.
REFUSED: dict[str, tuple[Function, list[str]]] = {
    "unknown": (Function(lambda x: tf.nn.l2_loss(x), MATRIX), ['"nn.l2_loss"', "reduce_mean, "]),
    "lost_argument": (Function(lambda x, y: x == y, PAIR), ["lacks the argument other"]),
    "argument": (Function(lambda x: tf.cumsum(x, 1, exclusive=True), MATRIX), ["exclusive = true"]),
    "unread_argument": (
        Function(lambda x: tf.gather(x, [0], axis=1, batch_dims=1), MATRIX),
        ["batch_dims = 1"],
    ),
    "shape": (Function(lambda x: tf.shape(x) + 1, MATRIX), ['"compat.v1.shape"']),
    "two_sizes": (
        Function(lambda x: tf.reshape(x, (tf.shape(x)[0], -1, 2)), MATRIX),
        ["one size of which may be unknown"],
    ),
    "key": (
        Function(lambda x: x[:, : tf.shape(x)[1]], MATRIX),
        ["slice_spec", "which depends on a tensor"],
    ),
    "quotient_of_integers": (Function(lambda x: x / 2, INTEGER), ["int32", "float16, bfloat16"]),
    "mean_of_integers": (Function(lambda x: tf.reduce_mean(x, 1), INTEGER), ["int32"]),
    "half_beside_number": (
        Function(lambda x: tf.cast(x, "float16") > 0.1, MATRIX),
        ["float16", "bool, float32, int32, int64"],
    ),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, request) -> dict[str, oracle.Ran]:
    """All cases of this run, run by one process of the example."""
    items = [item for item in request.session.items if item.module is request.module]
    params = [item.callspec.params for item in items if hasattr(item, "callspec")]
    names = sorted({each["name"] for each in params if "name" in each})
    oracle.build_forward()
    folder = tmp_path_factory.mktemp("functions")
    results = {}
    for name in names:
        file, _, kind = name.partition(".")
        results[name] = prepare(folder / name, CASES[file], legacy=kind == "h5")
    oracle.run_forward(folder)
    return results


@pytest.mark.parametrize("name", [*chosen(), "attention.h5", "branches.h5"])
def test_functions(ran: dict[str, oracle.Ran], name: str) -> None:
    """The example finds what Keras 2 found, and exports what Keras 3 opens and runs alike."""
    case = ran[name]
    actual = oracle.results_of(case)
    assert sorted(actual) == sorted(case.expected)
    errors = oracle.errors_of(case, actual)
    wrong = {name: error for name, error in errors.items() if not error <= oracle.TOLERANCE}
    assert not wrong, wrong
    opened = keras.models.load_model(case.folder / "exported.keras")
    values = [tf.constant(x) for x in case.inputs]
    outputs = keras.tree.flatten(opened(oracle.feed(opened, values)))
    for at, y in enumerate(outputs):
        wanted = case.expected[f"y/{at}"]
        assert y.dtype == wanted.dtype
        assert oracle.error_of(y.numpy(), wanted) <= oracle.TOLERANCE


def test_refusals(tmp_path: Path) -> None:
    """What would be another model is refused by name."""
    oracle.build_forward()
    for name, (function, _) in REFUSED.items():
        write(tmp_path / name, function)
    oracle.run_forward(tmp_path)
    for name, (_, parts) in REFUSED.items():
        message = (tmp_path / name / "error.txt").read_text()
        assert all(part in message for part in parts), message
