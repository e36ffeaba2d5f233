"""Models as Keras 2 (`tf.keras`) wrote them, against the same models in Keras 3."""

from __future__ import annotations

import json

import keras
from keras import layers as L
from oracle import Cases, sequential

CASES = Cases()
ran = CASES.fixture()

GLOROT_2 = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}


def keras_2_layer(class_name: str, name: str, **config) -> dict:
    """A layer as Keras 2 wrote it."""
    return {
        "class_name": class_name,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
    }


def old_sequential(_: keras.Model) -> str:
    """The text of a Sequential."""
    layers = [
        keras_2_layer(
            "Conv2D", "c", batch_input_shape=[None, 6, 6, 2], filters=3, kernel_size=[3, 3],
            strides=[1, 1], padding="valid", data_format="channels_last", dilation_rate=[1, 1],
            groups=1, activation="linear", use_bias=False, kernel_initializer=GLOROT_2,
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
        "config": {"name": "sequential", "layers": layers},
        "keras_version": "2.15.0",
        "backend": "tensorflow",
    }
    return json.dumps(document)


CASES.add(
    "sequential",
    lambda: sequential(
        (6, 6, 2),
        L.Conv2D(3, 3, use_bias=False, name="c"),
        L.BatchNormalization(name="b"),
        L.LeakyReLU(0.1, name="l"),
        L.Flatten(name="f"),
    ),
    text=old_sequential,
    tolerance=5e-5,
)


def functional() -> keras.Model:
    """Two branches."""
    inputs = keras.Input((6,), name="in")
    left = L.Dense(6, activation="relu", name="left")(inputs)
    return keras.Model(inputs, L.Dense(2, name="out")(L.Add(name="add")([inputs, left])))


def old_functional(_: keras.Model) -> str:
    """The text of a Functional model."""

    def node(layer: dict, *names: str) -> dict:
        inbound = [[[name, 0, 0, {}] for name in names]] if names else []
        return layer | {"name": layer["config"]["name"], "inbound_nodes": inbound}

    source = {"batch_input_shape": [None, 6], "dtype": "float32", "sparse": False, "name": "in"}
    dense = {"use_bias": True, "kernel_initializer": GLOROT_2}
    layers = [
        node({"class_name": "InputLayer", "config": source}),
        node(keras_2_layer("Dense", "left", units=6, activation="relu", **dense), "in"),
        node(keras_2_layer("Add", "add"), "in", "left"),
        node(keras_2_layer("Dense", "out", units=2, activation="linear", **dense), "add"),
    ]
    config = {
        "name": "model",
        "layers": layers,
        "input_layers": [["in", 0, 0]],
        "output_layers": [["out", 0, 0]],
    }
    document = {"class_name": "Functional", "config": config, "keras_version": "2.15.0"}
    return json.dumps(document)


CASES.add("functional", functional, text=old_functional)

test_models = CASES.test()
