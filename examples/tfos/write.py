"""Write MNIST as TensorFlowOnSpark's examples have it, with TensorFlow.

Usage: write.py IDX_DIR OUTPUT ROWS. Of its 2.x line: `v2/csv`, lines `label,p0,..,p783`, and
`v2/tfr`, examples with `label` Int64[1] and `image` Int64[784]. Of its 1.4 line: `v1/csv/images`
and `v1/csv/labels`, whose lines belong together, the labels one-hot, and `v1/tfr`, with `label`
Int64[10]. All are in several files, which are not of one length.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

source, output, rows = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
# Ends of the files, as shares of the rows.
ENDS = [0.0, 0.22, 0.5, 0.78, 1.0]


def idx(name: str, header: int) -> np.ndarray:
    """Return the values of an IDX file."""
    with gzip.open(source / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def ints(values: np.ndarray) -> tf.train.Feature:
    """Return a feature of integers."""
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def write_examples(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write TFRecord files of `image` and `label`."""
    folder.mkdir(parents=True)
    for part, (start, end) in enumerate(parts):
        with tf.io.TFRecordWriter(str(folder / f"part-{part:05d}")) as writer:
            for image, label in zip(images[start:end], labels[start:end], strict=True):
                features = tf.train.Features(feature={"image": ints(image), "label": ints(label)})
                writer.write(tf.train.Example(features=features).SerializeToString())


def write_lines(folder: Path, values: np.ndarray) -> None:
    """Write CSV files without a header."""
    folder.mkdir(parents=True)
    for part, (start, end) in enumerate(parts):
        np.savetxt(folder / f"part-{part:05d}", values[start:end], fmt="%d", delimiter=",")


for split, prefix, count in [("train", "train", rows), ("test", "t10k", rows // 6)]:
    images = idx(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:count]
    labels = idx(f"{prefix}-labels-idx1-ubyte.gz", 8)[:count, None]
    one_hot = np.eye(10, dtype=np.uint8)[labels[:, 0]]
    parts = [
        (int(start * count), int(end * count)) for start, end in zip(ENDS, ENDS[1:], strict=False)
    ]
    write_lines(output / "v2/csv" / split, np.hstack([labels, images]))
    write_examples(output / "v2/tfr" / split, images, labels)
    write_lines(output / "v1/csv" / split / "images", images)
    write_lines(output / "v1/csv" / split / "labels", one_hot)
    write_examples(output / "v1/tfr" / split, images, one_hot)
