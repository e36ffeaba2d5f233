"""Models run by Keras on TensorFlow and by the Rust example `forward`, and compared.

A test module lists its cases; all of them are run by one process of the example:

    CASES = Cases()
    CASES.add("dense", lambda: sequential((6,), L.Dense(4)))
    run = CASES.fixture()
    test_layers = CASES.test()

Each case compares outputs in inference and training, masks, added losses, gradients by inputs and
weights, the variables after the pass, and what stock Keras makes of the exported files.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
FORWARD = ROOT / "target" / "release" / "examples" / "forward"
ERRORS = ROOT / "target" / "parity"

# What the example holds dtypes in that libtorch does not compute in.
HELD_IN = {"uint16": "int64", "uint32": "int64", "uint64": "int64"}

# Largest difference allowed, relative to the largest magnitude of the tensor (at least 1e-3).
TOLERANCE = 1e-5
# Stays out of cases in which sums of zero, known to be so, differ by rounding.
FLOOR = 1e-3
# A gradient that is zero by cancellation is as exact as the largest of its case allows.
CANCELLED = 0.05

# `make parity` compares every case; `make test` this many of each module, spread over all.
EVERYTHING = os.environ.get("FLAMBEAU_PARITY") == "all"
PART = 24

Make = Callable[[], keras.Model]


@dataclass
class Case:
    """One model with its inputs, or how to make them."""

    make: Make
    inputs: Callable[[keras.Model], list[np.ndarray]] | None = None
    # Another config of the same model, made from it: what the example reads.
    text: Callable[[keras.Model], str] | None = None
    tolerance: float = TOLERANCE
    # Whether training is random: then only shapes are compared in training.
    random: bool = False
    rows: int = 5
    # Whether stock Keras can open the export (it cannot where the case is about its own defects).
    export: bool = True
    # Whether Keras runs it in a graph, as `fit` and `predict` do: there, preprocessing layers cast
    # integers too.
    compiled: bool = False


@dataclass
class Ran:
    """What Keras found for a case, and where the example's results are."""

    case: Case
    folder: Path
    model: keras.Model
    inputs: list[np.ndarray]
    expected: dict[str, np.ndarray] = field(default_factory=dict)


def sequential(shape: tuple, *layers: keras.Layer, dtype: str = "float32") -> keras.Model:
    """A Sequential model that starts with an input of `shape`."""
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def build_forward() -> None:
    """Build the example."""
    command = ["cargo", "build", "--release", "--workspace", "--example", "forward"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1800)


def run_forward(folder: Path, *arguments: str) -> None:
    """Run the example on every case below a folder, on the device that FLAMBEAU_DEVICE names."""
    libtorch = os.environ.get("FLAMBEAU_LIBTORCH", ROOT / "build" / "libtorch" / "lib")
    environment = os.environ | {"LD_LIBRARY_PATH": str(libtorch)}
    command = [FORWARD, folder, *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr


def our_path(model: keras.Model, variable: keras.Variable) -> str:
    """The path that we give a variable: Keras's without the name of the model around it."""
    for layer in model.layers:
        # Keras named a wrapped model's variables before it was wrapped.
        wrapped = getattr(layer, "layer", None)
        if isinstance(wrapped, keras.Model) and any(variable is each for each in wrapped.weights):
            # Variables of a Functional were named before it was.
            path = variable.path.removeprefix(f"{wrapped.name}/")
            return f"{layer.name}/{wrapped.name}/{path}"
    parts = variable.path.split("/")
    return "/".join(parts[1:]) if parts[0] == model.name else variable.path


def is_seed(variable: keras.Variable) -> bool:
    """Whether it is the state of a random generator, which we do not keep."""
    return "seed_generator" in variable.path


def randomize(model: keras.Model, seed: int = 5) -> None:
    """Give every weight its own value, so that a mix-up shows; variances stay positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if is_seed(weight) or not weight.dtype.startswith("float"):
            continue
        value = rng.normal(0.0, 0.4, weight.shape)
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.name else value)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.finalize_state()


def default_inputs(model: keras.Model, rows: int) -> list[np.ndarray]:
    """Random numbers for every input: standard normal, or small integers."""
    rng = np.random.default_rng(1)
    inputs = []
    for spec in model.inputs:
        shape = (rows, *[5 if size is None else size for size in spec.shape[1:]])
        if spec.dtype.startswith(("int", "uint", "bool")):
            inputs.append(rng.integers(0, 4, shape).astype(spec.dtype))
        else:
            inputs.append(rng.normal(size=shape).astype("float32"))
    return inputs


class Cases:
    """The cases of one test module."""

    def __init__(self) -> None:
        """No case yet."""
        self._cases: dict[str, Case] = {}

    def add(self, name: str, make: Make, **options) -> None:
        """Add a case; `options` are those of `Case`."""
        assert name not in self._cases, name
        self._cases[name] = Case(make, **options)

    def fixture(self):
        """A fixture that runs all cases of the module in one process."""

        @pytest.fixture(scope="module")
        def ran(tmp_path_factory: pytest.TempPathFactory, request) -> dict[str, Ran | Exception]:
            wanted = {
                item.callspec.params["name"]
                for item in request.session.items
                if item.module is request.module and "ran" in item.fixturenames
            }
            build_forward()
            folder = tmp_path_factory.mktemp("cases")
            results = {}
            for number, (name, case) in enumerate(self._cases.items()):
                if name in wanted:
                    results[name] = prepared(case, folder / str(number))
            run_forward(folder)
            if len(results) == len(self._cases):
                record(Path(request.module.__file__).stem, results)
            return results

        return ran

    def chosen(self) -> list[str]:
        """The cases that this run compares."""
        names = list(self._cases)
        if EVERYTHING:
            return names
        return names[:: max(1, len(names) // PART)]

    def test(self):
        """A test of every case that this run compares."""

        @pytest.mark.parametrize("name", self.chosen())
        def test(ran: dict[str, Ran | Exception], name: str) -> None:
            if isinstance(ran[name], Exception):
                raise ran[name]
            check(ran[name])

        return test


def objects(config: object) -> list[tuple[str, str, dict]]:
    """Every layer and operation in a model's config: family, class and config."""
    if isinstance(config, list):
        return [found for item in config for found in objects(item)]
    if not isinstance(config, dict):
        return []
    found = [found for item in config.values() for found in objects(item)]
    module = config.get("module") or ""
    if module.startswith("keras.layers"):
        # The class's own name, which is not always that of the export.
        name = getattr(keras.layers, config["class_name"]).__name__
        found.append(("layers", name, config["config"]))
    if module.startswith("keras.src.applications"):
        found.append(("layers", config["class_name"], config["config"]))
    if module.startswith("keras.src.ops"):
        found.append(("ops", config["class_name"], config["config"]))
    return found


def record(module: str, results: dict[str, Ran]) -> None:
    """Leave what was covered, and how exactly, for the table in docs/ (`table.py`)."""
    entries = []
    for name, ran in results.items():
        if isinstance(ran, Exception):
            continue
        try:
            error = largest_error(ran)
        except (OSError, AssertionError, KeyError):
            continue
        found = objects(json.loads(ran.model.to_json()))
        entries.append({"case": name, "error": error, "objects": found})
    ERRORS.mkdir(parents=True, exist_ok=True)
    (ERRORS / f"{module}.json").write_text(json.dumps(entries))


def prepared(case: Case, folder: Path) -> Ran | Exception:
    """Prepare a case; what went wrong is left to its test."""
    try:
        return prepare(case, folder)
    except Exception as error:
        return error


def prepare(case: Case, folder: Path) -> Ran:
    """Write a case's files, and run it in Keras."""
    folder.mkdir()
    keras.utils.clear_session()
    model = case.make()
    randomize(model)
    inputs = case.inputs(model) if case.inputs else default_inputs(model, case.rows)
    ran = Ran(case, folder, model, inputs)
    if case.text is None:
        model.save(folder / "model.keras")
    else:
        (folder / "model.json").write_text(case.text(model))
        weights = {our_path(model, weight): weight.numpy() for weight in model.weights}
        save_file(weights, folder / "weights.safetensors")
    tensors = given(inputs, folder)
    run_keras(ran, tensors)
    save_file(tensors, folder / "inputs.safetensors")
    return ran


def given(inputs: list[np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """The inputs as tensors of the example; strings are written to a file of their own."""
    tensors, strings = {}, {}
    for at, x in enumerate(inputs):
        if x.dtype.kind in "OSU":
            strings[at] = {"shape": x.shape, "items": [str(item) for item in x.ravel()]}
        else:
            held = HELD_IN.get(str(x.dtype), x.dtype)
            tensors[f"x/{at}"] = np.ascontiguousarray(x.astype(held))
    if strings:
        (folder / "strings.json").write_text(json.dumps(strings))
    return tensors


def feed(model: keras.Model, inputs: list) -> object:
    """The inputs in the structure that the model takes."""
    functional = getattr(model, "_functional", None) or model
    return keras.tree.pack_sequence_as(functional._inputs_struct, inputs)


def called(ran: Ran, model: keras.Model, values: list, *, training: bool) -> list:
    """The outputs of the model, as the case says how Keras runs it."""
    call = tf.function(model) if ran.case.compiled else model
    return keras.tree.flatten(call(feed(model, values), training=training))


def run_keras(ran: Ran, tensors: dict[str, np.ndarray]) -> None:
    """Fill in what Keras finds, and the factors `g` of the outputs in the loss."""
    model, expected = ran.model, ran.expected
    rng = np.random.default_rng(2)
    values = [tf.constant(x) for x in ran.inputs]
    for at, y in enumerate(called(ran, model, values, training=False)):
        expected[f"y/{at}"] = y.numpy()
    with tf.GradientTape(persistent=True) as tape:
        floats = {at: value for at, value in enumerate(values) if value.dtype.is_floating}
        tape.watch(list(floats.values()))
        outputs = called(ran, model, values, training=True)
        loss = tf.constant(0.0)
        for at, y in enumerate(outputs):
            expected[f"training/{at}"] = y.numpy()
            # Lookups give integers where Keras declares float32.
            if y.dtype.is_floating or model.outputs[at].dtype.startswith("float"):
                tensors[f"g/{at}"] = rng.normal(size=y.shape).astype("float32")
                loss += tf.reduce_sum(tf.cast(y, "float32") * tensors[f"g/{at}"])
        # Keras's trainer adds them in float32, whatever a layer computed its in.
        added = tf.add_n([tf.cast(each, "float32") for each in [0.0, *model.losses]])
        loss += added
    expected["losses"] = added.numpy()
    for at, y in enumerate(outputs):
        mask = getattr(y, "_keras_mask", None)
        if mask is not None:
            expected[f"mask/{at}"] = mask.numpy()
    trainable = model.trainable_weights
    found = tape.gradient(loss, [weight.value for weight in trainable])
    for weight, gradient in zip(trainable, found, strict=True):
        if gradient is not None:
            expected[f"gradient/{our_path(model, weight)}"] = dense(gradient)
    for at, gradient in zip(floats, tape.gradient(loss, list(floats.values())), strict=True):
        if gradient is not None:
            expected[f"input/{at}"] = dense(gradient)
    for weight in model.weights:
        if not is_seed(weight):
            expected[f"updated/{our_path(model, weight)}"] = weight.numpy()


def dense(gradient: tf.Tensor | tf.IndexedSlices) -> np.ndarray:
    """A gradient in full, which TensorFlow gives by rows where rows were taken."""
    return tf.convert_to_tensor(gradient).numpy()


def errors_of(ran: Ran, actual: dict[str, np.ndarray]) -> dict[str, float]:
    """The error of everything compared."""
    gradients = [value for name, value in ran.expected.items() if name.startswith("gradient/")]
    largest = max((float(np.abs(value).max(initial=0.0)) for value in gradients), default=0.0)

    def floor(name: str) -> float:
        return max(FLOOR, CANCELLED * largest) if name.startswith("gradient/") else FLOOR

    names = compared(ran)
    return {name: error_of(actual[name], ran.expected[name], floor(name)) for name in names}


def error_of(actual: np.ndarray, expected: np.ndarray, floor: float = FLOOR) -> float:
    """The largest difference, relative to the largest magnitude, at least `floor`."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if expected.size == 0:
        return 0.0
    if expected.dtype.kind != "f" and expected.dtype != ml_dtypes.bfloat16:
        assert np.array_equal(actual, expected.astype(actual.dtype))
        return 0.0
    actual, expected = actual.astype("float64"), expected.astype("float64")
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(floor, float(finite.max(initial=0.0)))
    difference = np.where(same, 0.0, np.abs(actual - expected))
    return float(difference.max()) / scale


def results_of(ran: Ran) -> dict[str, np.ndarray]:
    """What the example left; its message if it failed."""
    error = ran.folder / "error.txt"
    assert not error.exists(), error.read_text()
    return load_file(ran.folder / "outputs.safetensors")


def compared(ran: Ran) -> list[str]:
    """The names of what is compared."""
    if ran.case.random:
        return [name for name in ran.expected if name.startswith("y/")]
    return list(ran.expected)


def largest_error(ran: Ran) -> float:
    """The largest error over everything compared."""
    actual = results_of(ran)
    return max(errors_of(ran, actual).values())


def check(ran: Ran) -> None:
    """Compare the example with Keras."""
    actual = results_of(ran)
    assert sorted(actual) == sorted(ran.expected)
    for name, expected in ran.expected.items():
        assert actual[name].shape == expected.shape, name
    errors = errors_of(ran, actual)
    wrong = {name: error for name, error in errors.items() if not error <= ran.case.tolerance}
    assert not wrong, wrong
    if ran.case.export:
        check_export(ran)


def check_export(ran: Ran) -> None:
    """Stock Keras opens what the example exports, and predicts the same after the updates."""
    opened = keras.models.load_model(ran.folder / "exported.keras")
    values = [tf.constant(x) for x in ran.inputs]
    expected = called(ran, ran.model, values, training=False)
    actual = called(ran, opened, values, training=False)
    for a, e in zip(actual, expected, strict=True):
        assert error_of(a.numpy(), e.numpy()) <= max(ran.case.tolerance, 1e-5)
    text = (ran.folder / "exported.json").read_text()
    assert keras.models.model_from_json(text).count_params() == ran.model.count_params()
