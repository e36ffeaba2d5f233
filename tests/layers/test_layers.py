"""Every layer and option against TensorFlow: outputs, gradients, new states, and what we export.

The Rust example `forward` runs a case from a folder; Keras runs the same model here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
FORWARD = ROOT / "target" / "release" / "examples" / "forward"
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}
IMAGE = (9, 7, 4)


@pytest.fixture(scope="session", autouse=True)
def forward_example() -> None:
    """Build the example once."""
    command = ["cargo", "build", "--release", "-p", "flambeau-keras", "--example", "forward"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1800)


def path_of(variable: keras.Variable) -> str:
    """The variable's path without the name of its model."""
    return "/".join(variable.path.split("/")[-2:])


def randomize(model: keras.Model, seed: int = 5) -> None:
    """Give every weight its own value, so that a mix-up shows; variances stay positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(0.0, 0.4, weight.shape)
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.name else value)


def run_forward(folder: Path, *arguments: str) -> dict[str, np.ndarray]:
    """Run the example on a case; the error text if it fails."""
    libraries = {"LD_LIBRARY_PATH": str(ROOT / "build" / "libtorch" / "lib")}
    done = subprocess.run(
        [FORWARD, folder, *arguments],
        env=os.environ | libraries,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return load_file(folder / "outputs.safetensors")


def write_case(folder: Path, model: keras.Model, x: np.ndarray, text: str | None) -> np.ndarray:
    """Write the inputs of a case; gives the factors `g` of the outputs in the loss."""
    if text is None:
        model.save(folder / "model.keras")
    else:
        (folder / "model.json").write_text(text)
        weights = {path_of(weight): weight.numpy() for weight in model.weights}
        save_file(weights, folder / "weights.safetensors")
    g = np.random.default_rng(2).normal(size=(len(x), *model.output_shape[1:])).astype("float32")
    save_file({"x": x, "g": g}, folder / "inputs.safetensors")
    return g


def check(
    folder: Path, model: keras.Model, x: np.ndarray | None = None, text: str | None = None
) -> None:
    """Compare the example with Keras on one model; `text` is another config of the same model."""
    randomize(model)
    if x is None:
        shape = (5, *model.input_shape[1:])
        x = np.random.default_rng(1).normal(size=shape).astype("float32")
    g = write_case(folder, model, x, text)
    actual = run_forward(folder)
    expected = {"y": model(x, training=False).numpy()}
    with tf.GradientTape() as tape:
        y = model(x, training=True)
        loss = tf.reduce_sum(y * g)
    expected["training/y"] = y.numpy()
    trainable = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in trainable])
    for weight, gradient in zip(trainable, gradients, strict=True):
        expected[f"gradient/{path_of(weight)}"] = gradient.numpy()
    for weight in model.weights:
        expected[f"updated/{path_of(weight)}"] = weight.numpy()
    assert sorted(actual) == sorted(expected)
    for name, value in expected.items():
        scale = max(1.0, float(np.abs(value).max(initial=0.0)))
        np.testing.assert_allclose(actual[name] / scale, value / scale, err_msg=name, **TOLERANCE)
    check_export(folder, model, x)


def check_export(folder: Path, model: keras.Model, x: np.ndarray) -> None:
    """Stock Keras opens what the example exports, and predicts the same after the updates."""
    opened = keras.models.load_model(folder / "exported.keras")
    expected = model(x, training=False).numpy()
    np.testing.assert_allclose(opened(x, training=False).numpy(), expected, **TOLERANCE)
    text = (folder / "exported.json").read_text()
    assert keras.models.model_from_json(text).count_params() == model.count_params()


CONVOLUTIONS = {
    "valid": {},
    "same": {"padding": "same"},
    "same_strides": {"padding": "same", "strides": 2},
    "same_uneven_strides": {"padding": "same", "strides": (3, 2), "kernel_size": (2, 3)},
    "valid_strides": {"strides": (2, 3)},
    "even_kernel": {"padding": "same", "kernel_size": (4, 2)},
    "dilation": {"dilation_rate": (2, 1)},
    "same_dilation": {"padding": "same", "dilation_rate": 2, "kernel_size": (2, 3)},
    "no_bias": {"use_bias": False, "activation": "relu"},
    "groups": {"groups": 2, "filters": 6},
    "pointwise": {"kernel_size": 1, "strides": 2, "padding": "same"},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv2d(tmp_path: Path, options: dict) -> None:
    arguments = {"filters": 3, "kernel_size": 3} | options
    check(tmp_path, keras.Sequential([keras.Input(IMAGE), L.Conv2D(**arguments)]))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, 1, (3, 2)])
@pytest.mark.parametrize("size", [2, 3, (4, 2)])
@pytest.mark.parametrize("layer", [L.MaxPooling2D, L.AveragePooling2D])
def test_pooling(tmp_path: Path, layer, size, strides, padding: str) -> None:
    # The convolution makes the gradient of the pooling visible.
    pool = layer(size, strides=strides, padding=padding)
    check(tmp_path, keras.Sequential([keras.Input(IMAGE), L.Conv2D(3, 1), pool]))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("own_layer", [False, True])
def test_a_relu_moved_behind_a_max_pooling_changes_nothing(
    tmp_path: Path, own_layer: bool, padding: str
) -> None:
    head = [L.Conv2D(3, 3), L.ReLU()] if own_layer else [L.Conv2D(3, 3, activation="relu")]
    tail = [L.MaxPooling2D(2, padding=padding), L.Flatten(), L.Dense(3)]
    check(tmp_path, keras.Sequential([keras.Input(IMAGE), *head, *tail]))


@pytest.mark.parametrize("keepdims", [False, True])
def test_global_average_pooling(tmp_path: Path, keepdims: bool) -> None:
    pool = L.GlobalAveragePooling2D(keepdims=keepdims)
    check(tmp_path, keras.Sequential([keras.Input(IMAGE), L.Conv2D(3, 2), pool, L.Dense(2)]))


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
@pytest.mark.parametrize("use_bias", [False, True])
def test_dense(tmp_path: Path, shape: tuple, use_bias: bool) -> None:
    check(tmp_path, keras.Sequential([keras.Input(shape), L.Dense(4, use_bias=use_bias)]))


@pytest.mark.parametrize("target", [(-1,), (6, -1), (7, 3, 3, 4), (3, -1, 2)])
def test_reshape(tmp_path: Path, target: tuple) -> None:
    check(tmp_path, keras.Sequential([keras.Input(IMAGE), L.Reshape(target), L.Dense(2)]))


def test_rescaling_flatten_and_inert_dropout(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (5, *IMAGE), dtype="uint8")
    layers = [L.Rescaling(1 / 127.5, offset=-1.0), L.Flatten(), L.Dropout(0.0), L.Dense(3)]
    check(tmp_path, keras.Sequential([keras.Input(IMAGE), *layers]), x)


ACTIVATIONS = [
    "linear", "relu", "relu6", "sigmoid", "tanh", "softmax", "log_softmax", "softplus", "softsign",
    "elu", "selu", "gelu", "silu", "swish", "hard_sigmoid", "leaky_relu", "exponential", "mish",
]  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(tmp_path: Path, name: str) -> None:
    layers = [L.Dense(6, activation=name), L.Activation(name), L.Dense(3, activation=name)]
    check(tmp_path, keras.Sequential([keras.Input((6,)), *layers]))


ACTIVATION_LAYERS = {
    "relu": lambda: L.ReLU(),
    "relu_capped": lambda: L.ReLU(max_value=1.0),
    "relu_6": lambda: L.ReLU(max_value=6.0),
    "relu_sloped": lambda: L.ReLU(negative_slope=0.2),
    "relu_threshold": lambda: L.ReLU(threshold=0.3),
    "relu_all": lambda: L.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2),
    "leaky": lambda: L.LeakyReLU(),
    "leaky_steep": lambda: L.LeakyReLU(negative_slope=0.6),
    "elu": lambda: L.ELU(),
    "elu_alpha": lambda: L.ELU(alpha=0.4),
    "softmax": lambda: L.Softmax(),
    "softmax_axis": lambda: L.Softmax(axis=1),
}


@pytest.mark.parametrize("make", ACTIVATION_LAYERS.values(), ids=ACTIVATION_LAYERS)
def test_activation_layer(tmp_path: Path, make) -> None:
    check(tmp_path, keras.Sequential([keras.Input((4, 6)), L.Dense(5), make()]))


NORMALIZATIONS = {
    "default": {},
    "momentum_epsilon": {"momentum": 0.6, "epsilon": 0.1},
    "no_scale": {"scale": False},
    "no_center": {"center": False},
    "neither": {"scale": False, "center": False},
    "frozen": {"trainable": False},
}


@pytest.mark.parametrize("shape", [(6,), (3, 6), IMAGE])
@pytest.mark.parametrize("options", NORMALIZATIONS.values(), ids=NORMALIZATIONS)
def test_batch_normalization(tmp_path: Path, options: dict, shape: tuple) -> None:
    # No bias before it: its gradient would be zero but for rounding.
    layers = [L.Dense(4, use_bias=False), L.BatchNormalization(**options), L.Dense(2)]
    check(tmp_path, keras.Sequential([keras.Input(shape), *layers]))


def test_batch_normalization_of_a_single_row(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6,)), L.BatchNormalization()])
    check(tmp_path, model, np.ones((1, 6), dtype="float32"))


def test_a_frozen_layer_gets_no_gradients(tmp_path: Path) -> None:
    frozen = L.Dense(4, trainable=False, activation="tanh")
    check(tmp_path, keras.Sequential([keras.Input((6,)), L.Dense(5), frozen, L.Dense(2)]))


def branches() -> keras.Model:
    """A Functional model with a shared layer and both merging layers."""
    inputs = keras.Input((6, 6, 2), name="image")
    shared = L.Conv2D(2, 3, padding="same", activation="relu", name="shared")
    once = shared(inputs)
    twice = shared(once)
    added = L.Add(name="add")([inputs, once, twice])
    joined = L.Concatenate(name="joined")([added, L.BatchNormalization(name="bn")(twice)])
    stacked = L.Concatenate(axis=1, name="stacked")([joined, joined])
    pooled = L.MaxPooling2D(name="pool")(stacked)
    outputs = L.Dense(3, activation="softmax", name="out")(L.Flatten(name="flat")(pooled))
    return keras.Model(inputs, outputs, name="branches")


def test_a_functional_model_with_a_shared_layer(tmp_path: Path) -> None:
    check(tmp_path, branches())


def test_a_functional_model_from_json(tmp_path: Path) -> None:
    model = branches()
    check(tmp_path, model, text=model.to_json())


def test_a_sequential_model_without_input_layer(tmp_path: Path) -> None:
    model = keras.Sequential([L.Conv2D(3, 3), L.Flatten(), L.Dense(2)])
    model.build((None, 6, 6, 2))
    document = json.loads(model.to_json())
    layers = document["config"]["layers"]
    document["config"]["layers"] = [x for x in layers if x["class_name"] != "InputLayer"]
    check(tmp_path, model, text=json.dumps(document))


def keras_2_layer(class_name: str, name: str, **config) -> dict:
    """A layer as Keras 2 wrote it."""
    return {
        "class_name": class_name,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
    }


GLOROT_2 = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}


def test_a_keras_2_sequential_model(tmp_path: Path) -> None:
    layers = [L.Conv2D(3, 3, name="c"), L.BatchNormalization(name="b"), L.LeakyReLU(0.1, name="l")]
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers, L.Flatten(name="f")])
    old = [
        keras_2_layer(
            "Conv2D", "c", batch_input_shape=[None, 6, 6, 2], filters=3, kernel_size=[3, 3],
            strides=[1, 1], padding="valid", data_format="channels_last", dilation_rate=[1, 1],
            groups=1, activation="linear", use_bias=True, kernel_initializer=GLOROT_2,
            bias_initializer={"class_name": "Zeros", "config": {}}, kernel_regularizer=None,
        ),
        keras_2_layer(
            "BatchNormalization", "b", axis=[3], momentum=0.99, epsilon=0.001, center=True,
            scale=True, gamma_initializer={"class_name": "Ones", "config": {}},
        ),
        keras_2_layer("LeakyReLU", "l", alpha=0.1),
        keras_2_layer("Flatten", "f", data_format="channels_last"),
    ]  # fmt: skip
    document = {
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": old},
        "keras_version": "2.15.0",
        "backend": "tensorflow",
    }
    check(tmp_path, model, text=json.dumps(document))


def test_a_keras_2_functional_model(tmp_path: Path) -> None:
    inputs = keras.Input((6,), name="in")
    left = L.Dense(6, activation="relu", name="left")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="out")(L.Add(name="add")([inputs, left])))

    def node(layer: dict, *names: str) -> dict:
        inbound = [[[name, 0, 0, {}] for name in names]] if names else []
        return layer | {"name": layer["config"]["name"], "inbound_nodes": inbound}

    source = {"batch_input_shape": [None, 6], "dtype": "float32", "sparse": False, "name": "in"}
    dense = {"use_bias": True, "kernel_initializer": GLOROT_2}
    old = [
        node({"class_name": "InputLayer", "config": source}),
        node(keras_2_layer("Dense", "left", units=6, activation="relu", **dense), "in"),
        node(keras_2_layer("Add", "add"), "in", "left"),
        node(keras_2_layer("Dense", "out", units=2, activation="linear", **dense), "add"),
    ]
    config = {
        "name": "model",
        "layers": old,
        "input_layers": [["in", 0, 0]],
        "output_layers": [["out", 0, 0]],
    }
    document = {"class_name": "Functional", "config": config, "keras_version": "2.15.0"}
    check(tmp_path, model, text=json.dumps(document))


def test_the_mnist_cnn_starts_as_keras_starts_it(tmp_path: Path) -> None:
    layers = [
        L.Rescaling(1 / 255),
        L.Conv2D(32, 3, activation="relu"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(64, activation="relu"),
        L.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    (tmp_path / "model.json").write_text(model.to_json())
    x, g = np.zeros((2, 784), dtype="uint8"), np.ones((2, 10), dtype="float32")
    save_file({"x": x, "g": g}, tmp_path / "inputs.safetensors")
    actual = run_forward(tmp_path, "--initialize", "1")
    for weight in model.weights:
        value, expected = actual[f"updated/{path_of(weight)}"], weight.numpy()
        assert value.shape == expected.shape
        np.testing.assert_allclose(value.std(), expected.std(), rtol=0.15, atol=1e-7)
        np.testing.assert_allclose(np.abs(value).max(), np.abs(expected).max(), rtol=0.1)
