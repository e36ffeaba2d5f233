"""The layers of every convolutional and dense model, against TensorFlow."""

from __future__ import annotations

import json

import keras
import numpy as np
from keras import layers as L
from oracle import Cases, build_forward, our_path, run_forward, sequential
from safetensors.numpy import load_file, save_file

IMAGE = (9, 7, 4)
CASES = Cases()
ran = CASES.fixture()

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


def convolution(options: dict) -> keras.Model:
    """A Conv2D alone."""
    return sequential(IMAGE, L.Conv2D(**{"filters": 3, "kernel_size": 3} | options))


for name, options in CONVOLUTIONS.items():
    CASES.add(f"conv2d-{name}", lambda o=options: convolution(o))

for layer in [L.MaxPooling2D, L.AveragePooling2D]:
    for size in [2, 3, (4, 2)]:
        for strides in [None, 1, (3, 2)]:
            for padding in ["valid", "same"]:
                # The convolution makes the gradient of the pooling visible.
                CASES.add(
                    f"{layer.__name__}-{size}-{strides}-{padding}",
                    lambda c=layer, s=size, t=strides, p=padding: sequential(
                        IMAGE, L.Conv2D(3, 1), c(s, strides=t, padding=p)
                    ),
                )


def pooled(own_layer: bool, padding: str) -> keras.Model:
    """A relu that is moved behind the pooling."""
    head = [L.Conv2D(3, 3), L.ReLU()] if own_layer else [L.Conv2D(3, 3, activation="relu")]
    tail = [L.MaxPooling2D(2, padding=padding), L.Flatten(), L.Dense(3)]
    return sequential(IMAGE, *head, *tail)


for own in [False, True]:
    for padding in ["valid", "same"]:
        CASES.add(f"relu_before_pool-{own}-{padding}", lambda o=own, p=padding: pooled(o, p))

for keep in [False, True]:
    CASES.add(
        f"global_average-{keep}",
        lambda k=keep: sequential(
            IMAGE, L.Conv2D(3, 2), L.GlobalAveragePooling2D(keepdims=k), L.Dense(2)
        ),
    )

for shape in [(6,), (3, 6), (2, 3, 6)]:
    for bias in [False, True]:
        CASES.add(
            f"dense-{len(shape)}-{bias}",
            lambda s=shape, b=bias: sequential(s, L.Dense(4, use_bias=b)),
        )

for target in [(-1,), (6, -1), (7, 3, 3, 4), (3, -1, 2)]:
    CASES.add(f"reshape-{target}", lambda t=target: sequential(IMAGE, L.Reshape(t), L.Dense(2)))

CASES.add(
    "rescaling_flatten_and_inert_dropout",
    lambda: sequential(
        IMAGE, L.Rescaling(1 / 127.5, offset=-1.0), L.Flatten(), L.Dropout(0.0), L.Dense(3)
    ),
    inputs=lambda _: [np.random.default_rng(1).integers(0, 256, (5, *IMAGE)).astype("float32")],
)

ACTIVATIONS = [
    "linear", "relu", "relu6", "sigmoid", "tanh", "softmax", "log_softmax", "softplus", "softsign",
    "elu", "selu", "gelu", "silu", "swish", "hard_sigmoid", "leaky_relu", "exponential", "mish",
]  # fmt: skip

for name in ACTIVATIONS:
    CASES.add(
        f"activation-{name}",
        lambda n=name: sequential(
            (6,), L.Dense(6, activation=n), L.Activation(n), L.Dense(3, activation=n)
        ),
        # TensorFlow's exponential is a polynomial of its own.
        tolerance=3e-5 if name == "exponential" else 1e-5,
    )

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
for name, make in ACTIVATION_LAYERS.items():
    CASES.add(f"layer-{name}", lambda m=make: sequential((4, 6), L.Dense(5), m()))

NORMALIZATIONS = {
    "default": {},
    "momentum_epsilon": {"momentum": 0.6, "epsilon": 0.1},
    "no_scale": {"scale": False},
    "no_center": {"center": False},
    "neither": {"scale": False, "center": False},
    "frozen": {"trainable": False},
}
for name, options in NORMALIZATIONS.items():
    for shape in [(6,), (3, 6), IMAGE]:
        # No bias before it: its gradient would be zero but for rounding.
        CASES.add(
            f"batch_normalization-{name}-{len(shape)}",
            lambda o=options, s=shape: sequential(
                s, L.Dense(4, use_bias=False), L.BatchNormalization(**o), L.Dense(2)
            ),
            tolerance=5e-5,
        )
CASES.add(
    "batch_normalization_axis_1",
    lambda: sequential((3, 4, 5), L.BatchNormalization(axis=1)),
    tolerance=5e-5,
)
CASES.add(
    "batch_normalization_of_a_single_row",
    lambda: sequential((6,), L.BatchNormalization()),
    inputs=lambda _: [np.ones((1, 6), dtype="float32")],
)
CASES.add(
    "a_frozen_layer",
    lambda: sequential(
        (6,), L.Dense(5), L.Dense(4, trainable=False, activation="tanh"), L.Dense(2)
    ),
)


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


CASES.add("shared_layer", branches, tolerance=5e-5)
CASES.add("shared_layer_from_json", branches, text=lambda m: m.to_json(), tolerance=5e-5)


def without_input_layer(model: keras.Model) -> str:
    """The config of a Sequential that was built, not given an input."""
    document = json.loads(model.to_json())
    layers = document["config"]["layers"]
    document["config"]["layers"] = [x for x in layers if x["class_name"] != "InputLayer"]
    return json.dumps(document)


def built() -> keras.Model:
    """A Sequential built by a shape."""
    model = keras.Sequential([L.Conv2D(3, 3), L.Flatten(), L.Dense(2)])
    model.build((None, 6, 6, 2))
    return model


CASES.add("sequential_without_input_layer", built, text=without_input_layer)

CASES.add(
    "regularizers",
    lambda: sequential(
        (6,),
        L.Dense(4, kernel_regularizer="l2", bias_regularizer=keras.regularizers.L1(0.3)),
        L.Dense(3, activation="tanh", activity_regularizer=keras.regularizers.L1L2(0.1, 0.2)),
        L.Dense(2, kernel_regularizer="l1", trainable=False),
    ),
)

test_layers = CASES.test()


def test_the_mnist_cnn_starts_as_keras_starts_it(tmp_path) -> None:
    layers = [
        L.Rescaling(1 / 255),
        L.Conv2D(32, 3, activation="relu"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(64, activation="relu"),
        L.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    case = tmp_path / "case"
    case.mkdir()
    (case / "model.json").write_text(model.to_json())
    x, g = np.zeros((2, 784), dtype="uint8"), np.ones((2, 10), dtype="float32")
    save_file({"x/0": x, "g/0": g}, case / "inputs.safetensors")
    build_forward()
    run_forward(tmp_path, "--initialize", "1")
    actual = load_file(case / "outputs.safetensors")
    for weight in model.weights:
        value, expected = actual[f"updated/{our_path(model, weight)}"], weight.numpy()
        assert value.shape == expected.shape
        np.testing.assert_allclose(value.std(), expected.std(), rtol=0.15, atol=1e-7)
        np.testing.assert_allclose(np.abs(value).max(), np.abs(expected).max(), rtol=0.1)
