"""Plain Keras on TensorFlow over in-memory tensors; prints rows per second as JSON."""

import json
import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from fashion import BATCH, images, labels  # noqa: E402

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def cnn() -> keras.Model:
    """The CNN of the main job, compiled."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Measures one epoch of `fit` and one `predict`, each after a warm-up."""
    x, y = tf.constant(images()[:ROWS]), tf.constant(labels()[:ROWS])
    model = cnn()
    model.fit(x[:2560], y[:2560], batch_size=BATCH, verbose=0)
    start = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, verbose=0)
    train = ROWS / (time.perf_counter() - start)
    model.predict(x[:1000], batch_size=1000, verbose=0)
    start = time.perf_counter()
    model.predict(x, batch_size=1000, verbose=0)
    predict = ROWS / (time.perf_counter() - start)
    print(json.dumps({"train": train, "predict": predict}))


main()
