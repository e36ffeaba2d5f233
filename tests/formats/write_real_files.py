"""Writes the small files of Keras, TensorFlow, h5py and PIL that the hardening tests of
native/formats start from: `write_real_files.py native/formats/tests/files`.

They are kept in the repository, so that those tests need nothing but Rust.
"""

import os
import shutil
import sys
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import h5py
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from PIL import Image


def model() -> keras.Model:
    """A model with nested groups, two types of variables, assets and an optimizer."""
    keras.utils.set_random_seed(1)
    words = layers.Input((1,), dtype="string")
    lookup = layers.StringLookup()
    lookup.adapt(["a", "b"])
    inner = keras.Sequential([layers.Input((1, 2)), layers.SimpleRNN(1)])
    outputs = layers.Dense(1, dtype="bfloat16")(inner(layers.Embedding(3, 2)(lookup(words))))
    result = keras.Model(words, outputs)
    result.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    result.optimizer.build(result.trainable_variables)
    return result


def plain_model() -> keras.Model:
    """A model that the legacy format can hold."""
    keras.utils.set_random_seed(1)
    result = keras.Sequential([layers.Input((2,)), layers.Dense(2), layers.Dense(1)])
    result.compile("sgd", "mean_squared_error")
    result.optimizer.build(result.trainable_variables)
    return result


def write_latest(path: Path) -> None:
    """The newest structures of HDF5: dense links and attributes, all kinds of storage."""
    with h5py.File(path, "w", libver="latest", track_order=True) as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        for index in range(12):
            group.attrs[f"more{index}"] = "x" * index
            group[str(index)] = np.full(2, index, "int16")
        numbers = np.arange(4096, dtype="float32").reshape(64, 64)
        group.create_dataset("12", data=numbers, chunks=(32, 32), compression="gzip", shuffle=True)
        group.create_dataset("13", data=numbers[0], chunks=(32,), maxshape=(None,), fletcher32=True)
        group.create_dataset("14", data=np.array([True, False]))
        group["soft"] = h5py.SoftLink("/layers/dense/vars/0")


def write_images(folder: Path) -> None:
    """A picture of 24 times 20 pixels as files of both formats."""
    y, x = np.mgrid[0:24, 0:20]
    picture = np.stack([x * 12, y * 10, (x * y) % 256, 255 - x], -1).astype(np.uint8)
    color = Image.fromarray(picture[..., :3])
    Image.fromarray(picture).save(folder / "alpha.png")
    color.quantize(16).save(folder / "palette.png", transparency=3)
    color.save(folder / "baseline.jpg", quality=80, restart_marker_blocks=2)
    color.save(folder / "progressive.jpg", quality=80, progressive=True)


def main() -> None:
    """Writes all of them."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    archive = folder / "model.keras"
    model().save(archive)
    with (
        zipfile.ZipFile(archive) as stored,
        zipfile.ZipFile(folder / "deflated.keras", "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    model().save_weights(folder / "model.weights.h5")
    write_latest(folder / "latest.weights.h5")
    write_images(folder)
    plain_model().save(folder / "model.h5")
    prefix = tf.train.Checkpoint(model=plain_model(), word=tf.Variable("w")).write(
        str(folder / "model")
    )
    assert prefix == str(folder / "model")
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


if __name__ == "__main__":
    main()
