"""The files of native/formats against the programs that own the formats.

What Rust writes must open in TensorFlow, TensorBoard, Keras and safetensors; what TensorFlow and
Keras write must read the same in Rust.
"""

import functools
import io
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[2]


@functools.cache
def examples() -> Path:
    """The folder of the example programs of native/formats, built once."""
    build = ["cargo", "build", "--quiet", "--release", "-p", "flambeau-formats", "--examples"]
    subprocess.run(build, cwd=ROOT, check=True, timeout=600)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples"


def run_example(name: str, *arguments: str) -> str:
    command = [str(examples() / name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def counting(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def sample_model() -> keras.Model:
    model = keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(3, name="first"),
            layers.Dropout(0.5),
            layers.Dense(2, name="last"),
        ]
    )
    model.compile("adam", "mse")
    return model


def config_of(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read("config.json").decode()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    sample_model().save(folder / "keras.keras")
    (folder / "config.json").write_text(config_of(folder / "keras.keras"))
    run_example("write_samples", str(folder))
    return folder


def test_tensorflow_parses_our_tfrecord(samples: Path) -> None:
    spec = {
        "label": tf.io.FixedLenFeature([], tf.int64),
        "image": tf.io.FixedLenFeature([3], tf.float32),
        "names": tf.io.FixedLenFeature([3], tf.string),
        "none": tf.io.VarLenFeature(tf.int64),
    }
    records = list(tf.data.TFRecordDataset(str(samples / "examples.tfrecord")))
    rows = [tf.io.parse_single_example(record, spec) for record in records]
    assert [int(row["label"]) for row in rows] == [-1, 0, 2**63 - 1]
    for row in rows:
        assert row["image"].numpy().tolist() == [0.5, -1.0, np.finfo(np.float32).max]
        assert row["names"].numpy().tolist() == ["café".encode(), b"", b"\0\xff"]
        assert row["none"].shape == (0,)


def test_we_parse_the_tfrecord_of_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "tensorflow.tfrecord"
    features = {
        "ints": tf.train.Feature(int64_list=tf.train.Int64List(value=[-(2**63), 0, 300])),
        "floats": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, -0.25])),
        "bytes": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\0\xff", b""])),
        "empty": tf.train.Feature(float_list=tf.train.FloatList(value=[])),
        "missing": tf.train.Feature(),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(2):
            writer.write(example.SerializeToString())
    expected = {
        "ints": {"ints": [-(2**63), 0, 300]},
        "floats": {"floats": [1.5, -0.25]},
        "bytes": {"bytes": [[0, 255], []]},
        "empty": {"floats": []},
        "missing": None,
    }
    lines = run_example("read_examples", str(path)).splitlines()
    assert [json.loads(line) for line in lines] == [expected, expected]


def test_tensorboard_reads_our_events(samples: Path) -> None:
    events = EventAccumulator(str(samples))
    events.Reload()
    assert events.file_version == 2.0
    assert sorted(events.Tags()["scalars"]) == ["accuracy", "loss"]
    loss = events.Scalars("loss")
    assert [event.step for event in loss] == [0, 1, 2]
    assert [event.wall_time for event in loss] == [1.6e9, 1.6e9 + 1, 1.6e9 + 2]
    assert [event.value for event in loss] == [1.0, 0.5, float(np.float32(1 / 3))]
    assert events.PluginTagToContent("text") == {"model": b""}
    (text,) = events.Tensors("model")
    assert tf.make_ndarray(text.tensor_proto).item() == b'`{"class_name": "Sequential"}`'


def check_sample_weights(model: keras.Model) -> None:
    expected = [counting(4, 3), counting(3), counting(3, 2), counting(2)]
    for weight, values in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(weight, values)


@pytest.mark.filterwarnings("error")
def test_keras_loads_our_archive_with_its_optimizer(samples: Path) -> None:
    model = keras.models.load_model(samples / "model.keras")
    check_sample_weights(model)
    iteration, learning_rate, *slots = [v.numpy() for v in model.optimizer.variables]
    assert (iteration, learning_rate) == (7, 0.125)
    shapes = [(4, 3), (4, 3), (3,), (3,), (3, 2), (3, 2), (2,), (2,)]
    for slot, shape in zip(slots, shapes, strict=True):
        np.testing.assert_array_equal(slot, counting(*shape))


@pytest.mark.filterwarnings("error")
def test_keras_loads_our_weights_file(samples: Path) -> None:
    model = sample_model()
    model.optimizer.build(model.trainable_variables)
    model.load_weights(samples / "model.weights.h5")
    check_sample_weights(model)


def test_safetensors_and_tensorflow_read_our_checkpoint(samples: Path) -> None:
    state = tf.train.get_checkpoint_state(str(samples))
    assert state.model_checkpoint_path == str(samples / "ckpt-469")
    assert list(state.all_model_checkpoint_paths) == [
        str(samples / "ckpt-235"),
        str(samples / "ckpt-469"),
    ]
    tensors = load_file(samples / "ckpt-469.safetensors")
    assert sorted(tensors) == ["first/kernel", "scalar"]
    np.testing.assert_array_equal(tensors["first/kernel"], counting(4, 3))
    assert tensors["scalar"].shape == ()


def image_layers() -> list[keras.Layer]:
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(2, 3, name="edges"),
        layers.BatchNormalization(),
        layers.Conv2D(3, 3),
        layers.Dropout(0.5, seed=1),
        layers.Flatten(),
        layers.Dense(3, name="logits"),
    ]


def sequential(optimizer: keras.Optimizer | str | None) -> keras.Model:
    model = keras.Sequential([layers.Input((8, 8, 1)), *image_layers()])
    return trained(model, optimizer)


def functional(optimizer: keras.Optimizer | str | None) -> keras.Model:
    inputs = layers.Input((8, 8, 1), name="pixels")
    outputs = inputs
    for layer in image_layers():
        outputs = layer(outputs)
    branch = layers.Dense(2)(layers.Flatten()(inputs))
    inner = keras.Sequential([layers.Input((2,)), layers.Dense(2, name="deep")])
    return trained(keras.Model(inputs, layers.Concatenate()([inner(branch), outputs])), optimizer)


def trained(model: keras.Model, optimizer: keras.Optimizer | str | None) -> keras.Model:
    if optimizer is not None:
        model.compile(optimizer, "mse", metrics=["mae"])
        x, y = np.ones((4, 8, 8, 1)), np.zeros((4, *model.output_shape[1:]))
        model.fit(x, y, batch_size=2, verbose=0)
    return model


def scheduled() -> keras.Optimizer:
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    return keras.optimizers.SGD(decay, momentum=0.9)


def named_layers(model: keras.Model, parent: str = "") -> dict[str, keras.Layer]:
    """The layers by the group that our rule gives them, with those of nested models."""
    classes = [type(layer).__name__ for layer in model.layers]
    groups = run_example("list_groups", parent, *classes).splitlines()
    named = dict(zip(groups, model.layers, strict=True))
    for group, layer in list(named.items()):
        if isinstance(layer, keras.Sequential):
            named |= named_layers(layer, group)
    return named


def saved_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Keras does not save the state of random generators."""
    return layer._trainable_variables + layer._non_trainable_variables


def check_arrays(dumped: list[dict], variables: list[keras.Variable]) -> None:
    for array, variable in zip(dumped, variables, strict=True):
        values = np.array(array["data"], np.float32).reshape(array["shape"])
        np.testing.assert_array_equal(values, variable.numpy())


@pytest.mark.parametrize("build", [sequential, functional])
@pytest.mark.parametrize("optimizer", [None, "adam", "sgd", "scheduled"])
def test_we_read_the_archive_of_keras(build, optimizer: str | None, tmp_path: Path) -> None:
    model = build(scheduled() if optimizer == "scheduled" else optimizer)
    path = tmp_path / "model.keras"
    model.save(path)
    dump = json.loads(run_example("read_archive", str(path)))

    assert dump["config"] == config_of(path)
    assert dump["metadata"]["keras_version"] == keras.__version__
    stored = {layer["group"]: layer for layer in dump["layers"]}
    named = named_layers(model)
    assert set(stored) == set(named)
    for group, layer in named.items():
        assert stored[group]["name"] == layer.name
        if not isinstance(layer, keras.Sequential):
            check_arrays(stored[group]["vars"], saved_variables(layer))

    if optimizer is None:
        assert dump["optimizer"] is None
        return
    assert dump["optimizer"]["iteration"] == 2
    slots = list(model.optimizer.variables)[1:]
    if optimizer == "scheduled":
        assert dump["optimizer"]["learning_rate"] is None
    else:
        assert dump["optimizer"]["learning_rate"] == float(slots.pop(0))
    check_arrays(dump["optimizer"]["slots"], slots)


def circle(file: h5py.File) -> None:
    layers_group = file.create_group("layers")
    layers_group["again"] = layers_group
    layers_group["and_again"] = layers_group


def repetition(file: h5py.File) -> None:
    file["layers/dense/vars/0"] = np.zeros(1000, np.float32)
    for index in range(1, 10):
        file[f"layers/dense/vars/{index}"] = file["layers/dense/vars/0"]


def expansion(file: h5py.File) -> None:
    group = file.create_group("layers/dense/vars")
    group.create_dataset("0", (1 << 40,), np.float32, chunks=(1 << 20,), compression="gzip")


def archive_of(build: Callable[[h5py.File], None], folder: Path) -> Path:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        build(file)
    path = folder / "hostile.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1", "date_saved": ""}')
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (circle, "nest deeper"),
        (repetition, "more bytes than the file has"),
        (expansion, "more bytes than the file has"),
    ],
)
def test_we_refuse_hostile_weights(build, message: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_example("read_archive", str(archive_of(build, tmp_path)))
    assert message in caught.value.stderr


def test_we_never_follow_a_link_out_of_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.zeros(3, np.float32)

    def build(file: h5py.File) -> None:
        link = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret")
        file.create_group("layers/dense/vars")["0"] = link

    dump = json.loads(run_example("read_archive", str(archive_of(build, tmp_path))))
    assert dump["layers"] == [{"group": "layers/dense", "name": "", "vars": []}]
