"""TensorFlow's checkpoints: we read what TensorFlow wrote, it reads what we write, and models of
Keras are restored from checkpoints that were described by their paths alone."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers
from rust_examples import run_example

DTYPES = [
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
]  # fmt: skip


def save(prefix: Path, tensors: dict[str, tf.Tensor], slices: str = "") -> None:
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[slices] * len(tensors),
        tensors=list(tensors.values()),
    )


def numbers(dtype: str, *shape: int) -> tf.Tensor:
    count = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return tf.cast(tf.constant(count % 3), dtype)


def plain_tensors() -> dict[str, tf.Tensor]:
    tensors = {
        f"{dtype}/{rank}": numbers(dtype, *(2, 3, 2)[:rank])
        for dtype in DTYPES
        for rank in range(4)
    }
    tensors["none"] = numbers("float32", 2, 0)
    tensors["text"] = tf.constant("caf\u00e9")
    tensors["texts"] = tf.constant([[b"\0\xff", b"", b"x" * 1000]])
    tensors["no texts"] = tf.constant([], "string")
    return tensors


def stack() -> keras.Model:
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(),
            layers.SpectralNormalization(layers.Conv2D(2, 3)),
            layers.DepthwiseConv2D(2),
            layers.SeparableConv2D(2, 2),
            layers.GroupNormalization(2),
            layers.Conv2DTranspose(2, 2),
            layers.PReLU(),
            layers.Dropout(0.5),
            layers.Flatten(),
            keras.Sequential([layers.Dense(4), layers.Normalization()]),
            layers.Dense(3, name="last"),
        ]
    )


def branches() -> keras.Model:
    tokens, features = layers.Input((5,), dtype="int32"), layers.Input((5, 4))
    inner = keras.Sequential([layers.Input((5, 4)), layers.EinsumDense("abc,cd->abd", (5, 4))])
    x = layers.Add()([layers.Embedding(7, 4)(tokens), inner(features)]) * 2.0
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True, dropout=0.1))(x)
    x = layers.TimeDistributed(layers.Dense(4))(layers.LayerNormalization()(x))
    x = layers.MultiHeadAttention(2, 2)(x, x)
    x = layers.Attention(use_scale=True)([layers.RMSNormalization()(x), x])
    x = layers.GroupQueryAttention(2, 2, 1)(x, x)
    return keras.Model(
        [tokens, features], layers.GRU(2)(layers.SimpleRNN(3, return_sequences=True)(x))
    )


def averaged() -> optimizers.Optimizer:
    decay = optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    return optimizers.SGD(decay, momentum=0.9, use_ema=True, gradient_accumulation_steps=2)


MODELS: dict[str, tuple[Callable[[], keras.Model], Callable[[], optimizers.Optimizer] | None]] = {
    "stack": (stack, None),
    "stack_sgd": (stack, averaged),
    "stack_loss_scaled": (stack, lambda: optimizers.LossScaleOptimizer(optimizers.Nadam())),
    "branches": (branches, None),
    "branches_adam": (branches, optimizers.Adam),
    "dense_adadelta": (
        lambda: keras.Sequential([layers.Input((2,)), layers.Dense(1)]),
        optimizers.Adadelta,
    ),
    "dense_ftrl": (
        lambda: keras.Sequential([layers.Input((2,)), layers.Dense(1)]),
        optimizers.Ftrl,
    ),
    "dense_adamax": (
        lambda: keras.Sequential([layers.Input((2,)), layers.Dense(1)]),
        optimizers.Adamax,
    ),
    "dense_rmsprop": (
        lambda: keras.Sequential([layers.Input((2,)), layers.Dense(1)]),
        optimizers.RMSprop,
    ),
    "dense_adagrad": (
        lambda: keras.Sequential([layers.Input((2,)), layers.Dense(1)]),
        optimizers.Adagrad,
    ),
}


def make(name: str, seed: int) -> keras.Model:
    """A model with values of its own in all variables."""
    build, optimizer = MODELS[name]
    model = build()
    if optimizer is not None:
        model.compile(optimizer(), "mse")
        model.optimizer.build(model.trainable_variables)
    draw = np.random.default_rng(seed)
    for variable in variables(model):
        variable.assign(draw.integers(0, 100, variable.shape).astype("float32"))
    return model


def variables(model: keras.Model) -> list[keras.Variable]:
    optimizer = getattr(model, "optimizer", None)
    return [*model.weights, *(optimizer.variables if optimizer else [])]


def check_same(model: keras.Model, expected: keras.Model) -> None:
    for found, wanted in zip(variables(model), variables(expected), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy(), err_msg=wanted.path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict, dict]:
    """TensorFlow's checkpoints, ours, what we read, and the models."""
    theirs, ours = tmp_path_factory.mktemp("theirs"), tmp_path_factory.mktemp("ours")
    save(theirs / "plain", plain_tensors())
    parts = {str(part): {f"{part}/x": numbers("int64", part + 1)} for part in range(3)}
    for part, tensors in parts.items():
        save(theirs / f"part{part}", tensors)
    prefixes = [str(theirs / f"part{part}") for part in parts]
    merged = str(theirs / "merged")
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=prefixes, destination_prefix=merged, delete_old_dirs=False
    )
    long_names = {f"layer {i}/{'name ' * (i % 50)}": numbers("uint8", 1) for i in range(6000)}
    save(theirs / "many", long_names)
    module = tf.Module()
    module.table = tf.Variable([1.5, 2.5], name="table")
    tf.saved_model.save(module, str(theirs / "saved_model"))
    for file in (theirs / "saved_model" / "variables").iterdir():
        file.rename(theirs / file.name)
    models = {name: make(name, 1) for name in MODELS}
    for name, model in models.items():
        tf.train.Checkpoint(model=model).write(str(theirs / name))
    dumps = json.loads(run_example("convert_files", str(theirs), str(ours)))
    assert set(dumps) == {path.name for path in theirs.glob("*.index")}
    return theirs, ours, dumps, models


PREFIXES = ["plain", "merged", "many", "variables", *MODELS]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_we_read_what_tensorflow_wrote_and_it_reads_what_we_write(prefix: str, files) -> None:
    theirs, ours, dumps, _ = files
    their, our = (tf.train.load_checkpoint(str(folder / prefix)) for folder in (theirs, ours))
    shapes, dtypes = their.get_variable_to_shape_map(), their.get_variable_to_dtype_map()
    assert our.get_variable_to_shape_map() == shapes
    assert our.get_variable_to_dtype_map() == dtypes
    tensors = dumps[f"{prefix}.index"]["tensors"]
    assert set(tensors) == set(shapes)
    for key, dump in tensors.items():
        expected = their.get_tensor(key)
        assert dump["shape"] == shapes[key]
        assert dump["dtype"] == dtypes[key].name
        if dump["dtype"] == "string":
            elements = [bytes.fromhex(element) for element in dump["elements"]]
            assert elements == np.ravel(np.asarray(expected, object)).tolist()
        else:
            assert bytes.fromhex(dump["bytes"]) == np.asarray(expected).tobytes()
        np.testing.assert_array_equal(our.get_tensor(key), expected)


@pytest.mark.parametrize("name", MODELS)
def test_we_find_variables_by_the_names_of_keras(name: str, files) -> None:
    _, _, dumps, models = files
    dump = dumps[f"{name}.index"]
    paths = [variable.path for variable in variables(models[name])]
    for variable in variables(models[name]):
        # Keras calls several variables of an optimizer the same if it does not name them.
        if paths.count(variable.path) == 1:
            found = dump["tensors"][dump["variables"][variable.path]]
            assert bytes.fromhex(found["bytes"]) == variable.numpy().tobytes()


# The tables in the documentation of `object_graph.rs`.
DENSE = ["_kernel", "bias"]
CELL = ["cell/kernel", "cell/recurrent_kernel", "cell/bias"]
ATTENTION = [
    f"_{part}_dense/{name}" for part in ("query", "key", "value", "output") for name in DENSE
]
LAYERS = {
    "Dense": DENSE,
    "EinsumDense": DENSE,
    "Conv2D": DENSE,
    "Embedding": ["_embeddings"],
    "DepthwiseConv2D": ["kernel", "bias"],
    "Conv2DTranspose": ["kernel", "bias"],
    "SeparableConv2D": ["depthwise_kernel", "pointwise_kernel", "bias"],
    "BatchNormalization": ["gamma", "beta", "moving_mean", "moving_variance"],
    "LayerNormalization": ["gamma", "beta"],
    "GroupNormalization": ["gamma", "beta"],
    "RMSNormalization": ["scale"],
    "PReLU": ["alpha"],
    "LSTM": CELL,
    "GRU": CELL,
    "SimpleRNN": CELL,
    "Bidirectional": [f"{side}_layer/{name}" for side in ("forward", "backward") for name in CELL],
    "TimeDistributed": [f"layer/{name}" for name in DENSE],
    "SpectralNormalization": [*(f"layer/{name}" for name in DENSE), "vector_u"],
    "MultiHeadAttention": ATTENTION,
    "GroupedQueryAttention": ATTENTION,
    "Attention": ["scale"],
    "Normalization": ["adapt_mean", "adapt_variance", "count"],
}
SLOTS = {
    "Adam": ["_momentums", "_velocities"],
    "Nadam": ["_momentums", "_velocities"],
    "SGD": ["_momentums"],
    "Adamax": ["_m", "_u"],
    "RMSprop": ["_velocities"],
    "Adagrad": ["_accumulators"],
    "Ftrl": ["_accumulators", "_linears"],
    "Adadelta": ["_accumulated_grads", "_accumulated_delta_vars"],
}
SHARED_SLOTS = ["_model_variables_moving_average", "_accumulated_gradients"]


class Description:
    """The variables of a checkpoint by path, and other paths that lead to them."""

    def __init__(self) -> None:
        """Starts with nothing."""
        self.variables: list[dict] = []
        self.links: list[tuple[str, str]] = []
        self.paths: dict[int, str] = {}

    def add(self, path: str, variable: keras.Variable | tf.Variable) -> None:
        """A variable, or another path to one that is there."""
        if id(variable) in self.paths:
            self.links.append((path, self.paths[id(variable)]))
            return
        self.paths[id(variable)] = path
        value = variable.numpy()
        self.variables.append(
            {
                "path": path,
                "full_name": getattr(variable, "path", variable.name),
                "dtype": value.dtype.name,
                "shape": value.shape,
                "bytes": list(value.tobytes()),
            }
        )

    def add_model(self, path: str, model: keras.Model) -> None:
        """All layers of a model."""
        inside = model
        if isinstance(model, keras.Sequential):
            path, inside = f"{path}/_functional", model._functional
        for index, operation in enumerate(inside.operations):
            place = f"{path}/_operations/{index}"
            if isinstance(operation, keras.Model):
                self.add_model(place, operation)
            for name in LAYERS.get(type(operation).__name__, []):
                # A layer without a bias, for example, has None there.
                if (variable := follow(operation, name)) is not None:
                    self.add(f"{place}/{name}", variable)
            if isinstance(operation, layers.SpectralNormalization):
                self.add(f"{place}/kernel", operation.layer.kernel)

    def add_optimizer(self, path: str, optimizer: optimizers.Optimizer) -> None:
        """All variables of an optimizer."""
        self.add(f"{path}/_iterations", optimizer._iterations)
        if isinstance(optimizer._learning_rate, keras.Variable):
            self.add(f"{path}/_learning_rate", optimizer._learning_rate)
        if isinstance(optimizer, optimizers.LossScaleOptimizer):
            self.add(f"{path}/step_counter", optimizer.step_counter)
            self.add(f"{path}/dynamic_scale", optimizer.dynamic_scale)
            self.add_optimizer(f"{path}/inner_optimizer", optimizer.inner_optimizer)
        if isinstance(optimizer, optimizers.Nadam):
            self.add(f"{path}/_u_product", optimizer._u_product)
        lists = ["_trainable_variables", *SLOTS.get(type(optimizer).__name__, []), *SHARED_SLOTS]
        lists = [name for name in lists if getattr(optimizer, name, None)]
        for name in ["_variables", *lists]:
            for index, variable in enumerate(getattr(optimizer, name)):
                self.add(f"{path}/{name}/{index}", variable)


def follow(layer: keras.Layer, path: str) -> keras.Variable:
    for name in path.split("/"):
        layer = getattr(layer, name)
    return layer


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, keras.Model]]:
    folder = tmp_path_factory.mktemp("described")
    models = {name: make(name, 2) for name in MODELS}
    for name, model in models.items():
        description = Description()
        description.add("save_counter", tf.Variable(3, dtype="int64", name="save_counter"))
        description.add_model("model", model)
        if model.compiled:
            description.add_optimizer("model/optimizer", model.optimizer)
        content = {"variables": description.variables, "links": description.links}
        (folder / f"{name}.json").write_text(json.dumps(content))
    run_example("write_checkpoints", str(folder))
    return folder, models


@pytest.mark.parametrize("name", MODELS)
def test_keras_models_are_restored_from_what_we_described(name: str, described) -> None:
    folder, models = described
    model = make(name, 3)
    checkpoint = tf.train.Checkpoint(model=model)
    checkpoint.restore(str(folder / name)).assert_consumed()
    check_same(model, models[name])
    assert checkpoint.save_counter.numpy() == 3


@pytest.mark.parametrize("name", MODELS)
def test_keras_models_are_restored_from_what_we_copied(name: str, files) -> None:
    _, ours, _, models = files
    model = make(name, 3)
    tf.train.Checkpoint(model=model).read(str(ours / name)).assert_consumed()
    check_same(model, models[name])


def refused(folder: Path) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_example("convert_files", str(folder), str(folder))
    return caught.value.stderr


def other_checkpoints(folder: Path) -> Iterator[tuple[Callable[[], None], str]]:
    yield lambda: save(folder / "x", {"a": numbers("float32", 2)}, "4 0,2"), "partitioned variable"
    complex_numbers = tf.constant([1j], "complex64")
    yield lambda: save(folder / "x", {"a": complex_numbers}), "complex64"
    variant = tf.raw_ops.TensorListFromTensor(tensor=[1.0], element_shape=tf.constant([], "int32"))
    yield lambda: save(folder / "x", {"a": variant}), "variant"


def test_what_we_do_not_read_is_refused_by_name(tmp_path: Path) -> None:
    for write, message in other_checkpoints(tmp_path):
        write()
        assert message in refused(tmp_path)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "x", {"a": numbers("float32", 2)})
    (tmp_path / "x.data-00000-of-00001").unlink()
    assert "x.data-00000-of-00001" in refused(tmp_path)
