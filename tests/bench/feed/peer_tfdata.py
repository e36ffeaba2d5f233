"""TFRecord files by TensorFlow: `write FOLDER RECORDS` makes them, `read FOLDER` times tf.data.

Each file has the images of Fashion-MNIST and their labels, the pixels once as 784 integers, once as
784 floats and once as bytes. Reading is TFRecordDataset, batch(64), parse_example on one thread; it
prints records per second by file, best of three, as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).parents[1]))

import tensorflow as tf
from fashion import images, labels

PIXELS = 784
KINDS = {
    "ints": tf.io.FixedLenFeature([PIXELS], tf.int64),
    "floats": tf.io.FixedLenFeature([PIXELS], tf.float32),
    "bytes": tf.io.FixedLenFeature([], tf.string),
}


def encoded(kind: str, image: bytes, label: int) -> bytes:
    """One tf.train.Example."""
    feature = {
        "ints": lambda: tf.train.Feature(int64_list=tf.train.Int64List(value=image)),
        "floats": lambda: tf.train.Feature(float_list=tf.train.FloatList(value=image)),
        "bytes": lambda: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
    }[kind]()
    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    features = tf.train.Features(feature={"image": feature, "label": label})
    return tf.train.Example(features=features).SerializeToString()


def write(folder: Path, records: int) -> None:
    """One file of each kind, of the images over and over."""
    rows = list(zip(images(), labels(), strict=True))
    for kind in KINDS:
        once = [encoded(kind, image.tobytes(), int(label)) for image, label in rows]
        (folder / kind).mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / kind / "part-0.tfrecord")) as writer:
            for record in itertools.islice(itertools.cycle(once), records):
                writer.write(record)


def read(path: str, kind: str) -> float:
    """Records per second."""
    features = {"image": KINDS[kind], "label": tf.io.FixedLenFeature([], tf.int64)}
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    data = tf.data.TFRecordDataset(path).batch(64)
    data = data.map(lambda batch: tf.io.parse_example(batch, features)).with_options(options)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        count = sum(int(batch["label"].shape[0]) for batch in data)
        best = min(best, time.perf_counter() - start)
    return count / best


def main() -> None:
    """Write, or read and print."""
    folder = Path(sys.argv[2])
    if sys.argv[1] == "write":
        write(folder, int(sys.argv[3]))
        return
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(json.dumps({kind: read(str(folder / kind / "part-0.tfrecord"), kind) for kind in KINDS}))


main()
