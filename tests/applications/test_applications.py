"""Every architecture of keras.applications with random weights, against TensorFlow.

Each is imported from `.keras`, predicts, takes one training step, and is exported to a `.keras`
that stock Keras opens. What would make training random, dropout and stochastic depth, is switched
off in the config. `make test` runs four of them, `make parity` all; one is in memory at a time.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors import safe_open
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
FORWARD = ROOT / "target" / "release" / "examples" / "forward"
FORWARD_LIMIT = 1e-4
STEP_LIMIT = 1e-3
ROWS = 3
CLASSES = 5
SIDE = 96
SIDES = {"MobileNetV2": 64, "MobileNetV3Small": 64, "EfficientNetB0": 64, "DenseNet121": 64}
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
CHOSEN = EVERY if os.environ.get("FLAMBEAU_PARITY") == "all" else QUICK
RATES = {"Dropout": "rate", "StochasticDepth": "drop_path_rate"}


@dataclass
class Step:
    """What Keras finds in one training step."""

    y: np.ndarray
    gradients: dict[str, np.ndarray]

    def floor(self) -> float:
        """A norm below which a gradient has cancelled, as a bias's before a normalization."""
        return 1e-3 * max(float(np.linalg.norm(value)) for value in self.gradients.values())


def test_no_architecture_is_left_out() -> None:
    """The list above is that of Keras."""
    exported = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(EVERY) == exported


@pytest.fixture(scope="module")
def forward() -> Path:
    """The example that runs a model, built."""
    command = ["cargo", "build", "--release", "-p", "flambeau-keras", "--example", "forward"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1800)
    return FORWARD


@pytest.mark.parametrize("name", CHOSEN)
def test_architecture(name: str, forward: Path, tmp_path: Path) -> None:
    """One architecture, there and back."""
    keras.utils.clear_session()
    folder = tmp_path / name
    folder.mkdir()
    model = well_conditioned(name)
    x = images(model)
    model.save(folder / "model.keras")
    factors = np.random.default_rng(2).normal(size=(ROWS, CLASSES)).astype("float32")
    save_file({"x/0": x, "g/0": factors}, folder / "inputs.safetensors")
    run(forward, tmp_path)
    try:
        compare(model, x, factors, folder)
    finally:
        shutil.rmtree(folder)
        del model
        gc.collect()


def well_conditioned(name: str) -> keras.Model:
    """The architecture, with weights under which rounding errors do not grow with depth.

    BatchNormalization's moving statistics are those of a batch, so that inference keeps the scale
    of the values. What is normalized lies about three standard deviations from the kink of a relu:
    each element that one rounding error puts on its other side changes a gradient by more than all
    other rounding errors together.
    """
    side = SIDES.get(name, SIDE)
    made = getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=CLASSES
    )
    config = made.get_config()
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
    if name.startswith("VGG"):
        shift_biases(model, rng)
    normalizations = [
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    model(images(model, seed=7), training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
    return model


def shift_biases(model: keras.Model, rng: np.random.Generator) -> None:
    """The same distance from kinks in a chain without normalizations, by its biases."""
    x = images(model, seed=7)
    for layer in model.layers[1:]:
        if layer.weights and layer.activation is keras.activations.relu:
            layer.activation = keras.activations.linear
            linear = layer(x).numpy()
            layer.activation = keras.activations.relu
            axes = tuple(range(linear.ndim - 1))
            sides = np.where(rng.uniform(size=linear.shape[-1]) < 0.8, 3.0, -3.0)
            mean, spread = linear.mean(axes), linear.std(axes)
            layer.bias.assign(layer.bias - mean + sides * spread)
        x = layer(x)


def images(model: keras.Model, seed: int = 1) -> np.ndarray:
    """Pixels in the range that the model is for."""
    shape = (ROWS, *model.input_shape[1:])
    smooth = np.random.default_rng(seed).normal(size=shape)
    scales = any(
        isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization))
        for layer in model.layers[:4]
    )
    return (smooth * 60 + 128 if scales else smooth).astype("float32")


def run(forward: Path, cases: Path) -> None:
    """Run the example on the only case below a folder."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(ROOT / "build" / "libtorch" / "lib")}
    done = subprocess.run(
        [forward, cases], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    for message in cases.glob("*/error.txt"):
        raise AssertionError(message.read_text())


def path_of(model: keras.Model, weight: keras.Variable) -> str:
    """The path that we give a variable: without the model's name and Keras's running numbers."""
    path = weight.path.removeprefix(f"{model.name}/")
    return re.sub(r"variable_\d+$", "variable", path)


def distance(actual: np.ndarray, expected: np.ndarray, floor: float) -> float:
    """The norm of the difference, relative to the norm of what is expected, at least `floor`."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    actual, expected = actual.astype("float64"), expected.astype("float64")
    return float(np.linalg.norm(actual - expected)) / max(floor, float(np.linalg.norm(expected)))


def step(model: keras.Model, x: np.ndarray, factors: np.ndarray) -> Step:
    """One training step of Keras, whose loss is the sum of the outputs times `factors`."""
    with tf.GradientTape() as tape:
        y = model(x, training=True)
        loss = tf.reduce_sum(y * factors)
    weights = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    named = zip(weights, gradients, strict=True)
    return Step(y.numpy(), {path_of(model, weight): value.numpy() for weight, value in named})


def compare(model: keras.Model, x: np.ndarray, factors: np.ndarray, folder: Path) -> None:
    """Compare what the example left with Keras: one tensor after the other."""
    with safe_open(folder / "outputs.safetensors", "numpy") as outputs:
        read = outputs.get_tensor
        predicted = model(x, training=False).numpy()
        assert np.ptp(predicted) > 0.01, "the outputs tell nothing"
        assert distance(read("y/0"), predicted, 1e-3) <= FORWARD_LIMIT
        trained = step(model, x, factors)
        assert distance(read("training/0"), trained.y, 1e-3) <= STEP_LIMIT
        loss = float(np.sum(read("training/0") * factors))
        assert loss == pytest.approx(float(np.sum(trained.y * factors)), rel=STEP_LIMIT, abs=1e-5)
        floor = trained.floor()
        wrong = {}
        for name, gradient in trained.gradients.items():
            error = distance(read(f"gradient/{name}"), gradient, floor)
            if not error <= STEP_LIMIT:
                wrong[name] = error
        for weight in model.weights:
            updated = read(f"updated/{path_of(model, weight)}")
            assert distance(updated, weight.numpy(), 1e-3) <= STEP_LIMIT, weight.path
        assert len(outputs.keys()) == len(trained.gradients) + len(model.weights) + 4
    opened = keras.models.load_model(folder / "exported.keras")
    exported = opened(x, training=False).numpy()
    assert distance(exported, model(x, training=False).numpy(), 1e-3) <= FORWARD_LIMIT
    if wrong:
        limit = 3 * conditioning(model, x, factors, trained)
        worst = dict(sorted(wrong.items(), key=lambda item: -item[1])[:5])
        assert max(wrong.values()) <= limit, (len(wrong), limit, worst)


def conditioning(model: keras.Model, x: np.ndarray, factors: np.ndarray, exact: Step) -> float:
    """How far Keras's own gradients move when the input changes by a part in a million.

    Enough elements lie at the kink of a relu, or at a draw of a max-pooling, that rounding puts
    some on the other side.
    """
    rng = np.random.default_rng(9)
    floor, largest = exact.floor(), 0.0
    for _ in range(4):
        moved = (x * (1 + 1e-6 * rng.normal(size=x.shape))).astype("float32")
        other = step(model, moved, factors).gradients
        pairs = ((other[name], gradient) for name, gradient in exact.gradients.items())
        largest = max(largest, *(distance(a, b, floor) for a, b in pairs))
    return largest
