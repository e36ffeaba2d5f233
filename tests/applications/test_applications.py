"""Every architecture of keras.applications with random weights, against TensorFlow.

Each is imported from `.keras`, predicts, takes one training step, and is exported to a `.keras`
that stock Keras opens. What would make training random, dropout and stochastic depth, is switched
off in the config. `make test` runs four of them, `make parity` all; one is in memory at a time.

Gradients are compared where they are continuous: `leave_kinks` keeps every relu from its kink, and
of several images those come first that have the fewest windows of max-poolings that rounding
decides. One that TensorFlow and we decide otherwise moves gradients by a hundredth: then the next
image is tried, as a mistake would show in all of them. Outputs that are ill-conditioned, as VGG's
are on some processors, may differ by more than the limit, as far as their conditioning explains.
"""

from __future__ import annotations

import gc
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracle import ERRORS, EVERYTHING, build_forward, run_forward
from safetensors import safe_open
from safetensors.numpy import save_file

# Largest differences allowed, of norms: of outputs and moving statistics, and of gradients. Only
# VGG's outputs, which nothing normalizes, are not within 1e-5.
LIMIT = 5e-5
GRADIENT_LIMIT = 1e-3
SEEDS = range(100, 110)
# How many images are tried.
TRIES = 3
# What sums of thousands of products may add up to: the root of their number times one rounding.
ROUNDINGS = 64
# Errors of values, relative to their standard deviation.
ROUNDING = 2e-6
ROWS = 3
CLASSES = 5
SIDE = 96
# So small that they are quick, or so large that the last maps are more than one pixel, since the
# variance of three numbers would be ill-conditioned.
SIDES = {"MobileNetV2": 64, "MobileNetV3Small": 64, "EfficientNetB0": 64, "DenseNet121": 64}
SIDES |= {"InceptionV3": 139, "InceptionResNetV2": 139}
QUICK = ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "DenseNet121"]
EVERY = [
    *("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"),
    *("DenseNet121", "DenseNet169", "DenseNet201"),
    *(f"EfficientNetB{size}" for size in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    *("InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2"),
    *("MobileNetV3Large", "MobileNetV3Small", "NASNetLarge", "NASNetMobile"),
    *("ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2"),
    *("VGG16", "VGG19", "Xception"),
]
CHOSEN = EVERY if EVERYTHING else QUICK
RELUS = (keras.activations.relu, keras.activations.relu6)
RATES = {"Dropout": "rate", "StochasticDepth": "drop_path_rate"}


@dataclass
class Step:
    """What Keras finds in one training step."""

    y: np.ndarray
    # Compared one by one: together they may take gigabytes.
    gradients: dict[str, tf.Tensor]

    def floor(self) -> float:
        """A norm below which a gradient has cancelled, as a bias's before a normalization."""
        return 1e-3 * max(float(tf.norm(value)) for value in self.gradients.values())


@dataclass
class Offset:
    """What was added to each channel: which in order, the variable and its factor."""

    at: int
    variable: keras.Variable
    factor: float = 1.0


@dataclass
class Errors:
    """The largest difference of each kind, relative to the norm of what is expected."""

    side: int
    prediction: float
    training: float
    gradients: float


def test_no_architecture_is_left_out() -> None:
    """The list above is that of Keras."""
    exported = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(EVERY) == exported


@pytest.fixture(scope="module")
def forward() -> None:
    """The example that runs a model, built."""
    build_forward()


@pytest.mark.usefixtures("forward")
@pytest.mark.parametrize("name", CHOSEN)
def test_architecture(name: str, tmp_path: Path) -> None:
    """One architecture, there and back."""
    keras.utils.clear_session()
    folder = tmp_path / name
    folder.mkdir()
    model = well_conditioned(name)
    factors = np.random.default_rng(2).normal(size=(ROWS, CLASSES)).astype("float32")
    try:
        for x in images_by_draws(model)[:TRIES]:
            condition(model, x)
            model.save(folder / "model.keras")
            save_file({"x/0": x, "g/0": factors}, folder / "inputs.safetensors")
            run_forward(tmp_path)
            gradients = compare(model, x, factors, folder)
            if max(gradients.values()) <= GRADIENT_LIMIT:
                return
        pytest.fail(f"gradients of {TRIES} images: {worst(gradients)}")
    finally:
        shutil.rmtree(folder)
        del model
        gc.collect()


def well_conditioned(name: str) -> keras.Model:
    """The architecture, with weights under which rounding errors do not grow with depth."""
    side = SIDES.get(name, SIDE)
    made = getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=CLASSES
    )
    config = made.get_config()
    del made
    for layer in config["layers"]:
        rate = RATES.get(layer["class_name"])
        if rate:
            layer["config"][rate] = 0.0
    keras.utils.clear_session()
    model = keras.Model.from_config(config)
    rng = np.random.default_rng(5)
    for layer in model.layers:
        for weight in layer.trainable_weights:
            value, shape = weight.numpy(), weight.shape
            if weight.name == "gamma" or weight.name.startswith("variable"):
                weight.assign(rng.uniform(0.2, 0.4, shape))
            elif weight.name == "beta":
                sides = np.where(rng.uniform(size=shape) < 0.8, 1.0, -1.0)
                weight.assign(sides * rng.uniform(0.8, 1.2, shape))
            elif weight.name == "bias":
                weight.assign(rng.normal(0.0, 0.2, shape))
            else:
                weight.assign(rng.normal(0.0, 1.0, shape) * np.std(value))
    return model


def images_by_draws(model: keras.Model) -> list[np.ndarray]:
    """Images, those with the fewest draws first; the first without any ends the search."""
    draws: dict[int, int] = {}
    for seed in SEEDS:
        draws[seed] = leave_kinks(model, images(model, seed))
        if not draws[seed]:
            break
    others = [seed for seed in SEEDS if seed not in draws]
    return [images(model, seed) for seed in [*sorted(draws, key=draws.__getitem__), *others]]


def condition(model: keras.Model, x: np.ndarray) -> None:
    """Keep every relu from its kink for `x`.

    BatchNormalization's moving statistics are those of another batch, so that inference keeps the
    scale of the values.
    """
    leave_kinks(model, x)
    normalizations = [
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    model(images(model, 7), training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum


def leave_kinks(model: keras.Model, x: np.ndarray) -> int:
    """Put what each relu is given on one side of its kink, channel by channel, when `x` is trained.

    An element that rounding puts on the other side changes gradients by more than all other
    rounding errors together. The bias or beta that was added last before a relu moves the channel.
    Channels of the same number are put on the same sides everywhere: a sum of maps that were moved
    (NASNet has some) is then on that side, too.

    Returns the draws: windows of max-poolings whose maximum rounding decides.
    """
    moved = before_relus(model)
    # By the id of a tensor, all of which live until the end: what was added to it last.
    offsets: dict[int, Offset] = {}
    draws = []

    def operation(layer: keras.Operation) -> Callable:
        def call(*args, **kwargs) -> tf.Tensor:
            if not isinstance(layer, keras.layers.Layer):
                return layer(*args, **kwargs)
            activation = getattr(layer, "activation", None)
            if layer.weights and activation in RELUS:
                return activation(shifted(without_activation(layer, args), Offset(0, layer.bias)))
            if layer.weights and activation is keras.activations.softmax:
                spread = tf.math.reduce_std(without_activation(layer, args))
                layer.kernel.assign(layer.kernel / spread)
            if isinstance(layer, keras.layers.MaxPooling2D):
                draws.append(draws_of(layer, args[0]))
            if "training" in layer._call_context_args:
                kwargs["training"] = True
            y = layer(*args, **kwargs)
            offset = added_by(layer, keras.tree.flatten(args))
            if offset and id(layer.output) in moved:
                return shifted(y, offset)
            if offset:
                offsets[id(y)] = offset
            return y

        return call

    def added_by(layer: keras.layers.Layer, inputs: list[tf.Tensor]) -> Offset | None:
        variable = getattr(layer, "beta", getattr(layer, "bias", None))
        if variable is not None:
            return Offset(len(offsets), variable)
        found = [offsets[id(each)] for each in inputs if id(each) in offsets]
        if found and isinstance(layer, keras.layers.Add):
            return max(found, key=lambda offset: offset.at)
        if found and type(layer).__name__ == "CustomScaleLayer":
            return replace(offsets[id(inputs[1])], factor=layer.scale)
        return None

    def shifted(values: tf.Tensor, offset: Offset) -> tf.Tensor:
        axes = list(range(len(values.shape) - 1))
        spread = tf.math.reduce_std(values, axes)
        margin = 0.2 * (spread + tf.reduce_mean(spread))
        above = margin - tf.reduce_min(values, axes)
        below = -margin - tf.reduce_max(values, axes)
        channels = values.shape[-1]
        positive = np.random.default_rng(channels).uniform(size=channels) < 0.8
        shift = tf.where(positive, above, below)
        offset.variable.assign_add(shift / offset.factor)
        return values + shift

    model._run_through_graph(x, operation)
    return sum(draws)


def before_relus(model: keras.Model) -> set[int]:
    """The ids of the symbolic tensors that relus are given, by themselves or concatenated."""
    found: set[int] = set()
    for _, nodes in sorted(model._nodes_by_depth.items()):
        for node in nodes:
            layer = node.operation
            activation = getattr(layer, "activation", None)
            relu = isinstance(layer, keras.layers.ReLU) or activation in RELUS
            concatenated = isinstance(layer, keras.layers.Concatenate)
            if relu or (concatenated and id(layer.output) in found):
                found.update(id(each) for each in node.input_tensors)
    return found


def draws_of(pooling: keras.layers.MaxPooling2D, x: tf.Tensor) -> int:
    """The windows whose two largest values are closer than rounding errors may be."""
    if math.prod(pooling.pool_size) == 1:
        return 0
    # Above 0, which pads.
    floor = tf.reduce_min(x) - 1.0
    window = [1, *pooling.pool_size, 1]
    patches = tf.image.extract_patches(
        x - floor, window, [1, *pooling.strides, 1], [1, 1, 1, 1], pooling.padding.upper()
    )
    values = tf.reshape(patches, (-1, math.prod(window), x.shape[-1]))
    largest = tf.math.top_k(tf.transpose(values, (0, 2, 1)), 2).values
    first, second = largest[..., 0], largest[..., 1]
    # Zeros that a relu left have no gradient.
    draws = (first - second < ROUNDING * tf.math.reduce_std(x)) & (first != -floor)
    return int(tf.math.count_nonzero(draws))


def without_activation(layer: keras.Layer, args: tuple) -> tf.Tensor:
    """What a layer gives its activation."""
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        return layer(*args)
    finally:
        layer.activation = activation


def images(model: keras.Model, seed: int) -> np.ndarray:
    """Pixels in the range that the model is for."""
    shape = (ROWS, *model.input_shape[1:])
    smooth = np.random.default_rng(seed).normal(size=shape)
    scales = any(
        isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization))
        for layer in model.layers[:4]
    )
    return (smooth * 60 + 128 if scales else smooth).astype("float32")


def path_of(model: keras.Model, weight: keras.Variable) -> str:
    """The path that we give a variable: without the model's name and Keras's running numbers."""
    path = re.sub(r"variable_\d+$", "variable", weight.path.removeprefix(f"{model.name}/"))
    for layer in model.layers:
        # Keras named the variables of ConvNeXt's inner models before those.
        if isinstance(layer, keras.Sequential) and any(weight is each for each in layer.weights):
            return f"{layer.name}/{path.removeprefix(f'{layer.name}/')}"
    return path


def distance(actual: np.ndarray, expected: np.ndarray, floor: float) -> float:
    """The norm of the difference, relative to the norm of what is expected, at least `floor`."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    actual, expected = actual.astype("float64"), expected.astype("float64")
    return float(np.linalg.norm(actual - expected)) / max(floor, float(np.linalg.norm(expected)))


def rounding(model: keras.Model, x: np.ndarray) -> float:
    """How far its outputs move, in float64, if all weights are rounded to float32 once more.

    Of a model that does the same in training and in inference.
    """
    assert not any(isinstance(each, keras.layers.BatchNormalization) for each in model.layers)
    config = model.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float64"
    wide = keras.Model.from_config(config)
    weights = [weight.numpy().astype("float64") for weight in model.weights]
    rng = np.random.default_rng(3)

    def outputs(half_ulps: float) -> np.ndarray:
        wide.set_weights(
            [w * (1 + half_ulps * rng.uniform(-(2.0**-24), 2.0**-24, w.shape)) for w in weights]
        )
        return wide(x.astype("float64"), training=False).numpy()

    exact = outputs(0.0)
    moved = [distance(outputs(1.0), exact, 1e-3) for _ in range(4)]
    return float(np.sqrt(np.mean(np.square(moved))))


def step(model: keras.Model, x: np.ndarray, factors: np.ndarray) -> Step:
    """One training step of Keras, whose loss is the sum of the outputs times `factors`."""
    with tf.GradientTape() as tape:
        y = model(x, training=True)
        loss = tf.reduce_sum(y * factors)
    weights = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    named = zip(weights, gradients, strict=True)
    return Step(y.numpy(), {path_of(model, weight): value for weight, value in named})


def compare(
    model: keras.Model, x: np.ndarray, factors: np.ndarray, folder: Path
) -> dict[str, float]:
    """Compare what the example left with Keras, one tensor after the other.

    Returns the distances of gradients, which the caller judges.
    """
    with safe_open(folder / "outputs.safetensors", "numpy") as outputs:
        read = outputs.get_tensor
        predicted = model(x, training=False).numpy()
        assert np.ptp(predicted) > 0.01, "the outputs tell nothing"
        trained = step(model, x, factors)
        floor = trained.floor()
        gradients = {
            name: distance(read(f"gradient/{name}"), gradient.numpy(), floor)
            for name, gradient in trained.gradients.items()
        }
        trained.gradients.clear()
        prediction = distance(read("y/0"), predicted, 1e-3)
        training = distance(read("training/0"), trained.y, 1e-3)
        updates = {
            weight.path: distance(read(f"updated/{path_of(model, weight)}"), weight.numpy(), 1e-3)
            for weight in model.weights
        }
        assert len(outputs.keys()) == len(gradients) + len(model.weights) + 4
    largest = max(training, *updates.values())
    record(folder.name, Errors(x.shape[1], prediction, largest, max(gradients.values())))
    assert max(updates.values()) <= LIMIT, worst(updates)
    if max(prediction, training) > LIMIT:
        assert max(prediction, training) <= ROUNDINGS * rounding(model, x)
    opened = keras.models.load_model(folder / "exported.keras")
    exported = opened(x, training=False).numpy()
    assert distance(exported, model(x, training=False).numpy(), 1e-3) <= LIMIT
    return gradients


def worst(errors: dict[str, float]) -> dict[str, float]:
    """The five largest."""
    return dict(sorted(errors.items(), key=lambda item: -item[1])[:5])


def record(name: str, errors: Errors) -> None:
    """Leave the errors for the table in docs/ (tests/layers/table.py)."""
    folder = ERRORS / "applications"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(asdict(errors)))
