"""Whether a TFRecord file is sound: our verdict is TensorFlow's, for every flip of a bit."""

import os
import subprocess
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
import tensorflow as tf
from rust_examples import examples


def tensorflow_reads(path: Path) -> tuple[int, bool]:
    """Records before the end, and whether the end is one."""
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(str(path)):
            count += 1
    except tf.errors.DataLossError:
        return count, False
    return count, True


def we_read(path: Path) -> tuple[int, bool]:
    """The same of our reader."""
    command = [str(examples() / "read_examples"), str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return len(done.stdout.splitlines()), done.returncode == 0


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three small examples."""
    path = tmp_path_factory.mktemp("clean") / "three.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for value in range(3):
            ints = tf.train.Int64List(value=[value] * value)
            feature = {"n": tf.train.Feature(int64_list=ints)}
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return path.read_bytes()


def test_every_flipped_bit(clean: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tfrecord"
    for at in range(len(clean)):
        for bit in range(8):
            damaged = bytearray(clean)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            expected = tensorflow_reads(path)
            assert we_read(path) == expected, (at, bit)
            assert expected[1] is False


def test_every_cut(clean: bytes, tmp_path: Path) -> None:
    """TensorFlow takes a cut within a record's first twelve bytes for the end; we tell it."""
    path = tmp_path / "cut.tfrecord"
    borders = []
    for end in range(len(clean) + 1):
        path.write_bytes(clean[:end])
        (expected, sound), ours = tensorflow_reads(path), we_read(path)
        if len(borders) == expected and ours[1]:
            borders.append(end)
        in_header = 0 < end - borders[-1] <= 12
        assert ours == (expected, sound and not in_header), end
    assert borders[0] == 0
    assert borders[-1] == len(clean)
    assert len(borders) == 4
