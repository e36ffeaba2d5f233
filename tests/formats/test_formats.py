"""The files of native/formats against the programs that own the formats.

What Rust writes must open in TensorFlow, TensorBoard, Keras and safetensors; what TensorFlow and
Keras write must read the same in Rust.
"""

import json
import os
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from rust_examples import run_example
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


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
    assert sorted(events.Tags()["tensors"]) == ["accuracy", "keras", "loss"]
    loss = events.Tensors("loss")
    assert [event.step for event in loss] == [0, 1, 2]
    assert [event.wall_time for event in loss] == [1.6e9, 1.6e9 + 1, 1.6e9 + 2]
    values = [tf.make_ndarray(event.tensor_proto) for event in loss]
    assert [(value.dtype, value.shape) for value in values] == [(np.float32, ())] * 3
    assert values == [1.0, 0.5, np.float32(1 / 3)]
    assert events.PluginTagToContent("scalars") == {"accuracy": b"", "loss": b""}
    assert events.PluginTagToContent("graph_keras_model") == {"keras": b"1"}
    (model,) = events.Tensors("keras")
    config = tf.make_ndarray(model.tensor_proto).item().decode()
    assert config == (samples / "config.json").read_text()


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
