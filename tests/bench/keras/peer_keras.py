"""Keras on TensorFlow: `peer_keras.py FOLDER fit|predict`."""

import sys

import tensorflow as tf
from models import keras
from timing import Case, report

case, mode = Case(sys.argv[1]), sys.argv[2]
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
model = keras.models.load_model(case.folder / "model.keras")
if mode == "fit":
    x, y = tf.constant(case.x[: case.rows]), tf.constant(case.y[: case.rows])
    model.compile("adam", case.settings["loss"])
    model.fit(x[: case.batch], y[: case.batch], batch_size=case.batch, verbose=0)
    report(case.rows, lambda: model.fit(x, y, batch_size=case.batch, verbose=0))
else:
    x = tf.constant(case.x[: case.predicted])
    model.predict(x[: case.predict_batch], batch_size=case.predict_batch, verbose=0)
    report(case.predicted, lambda: model.predict(x, batch_size=case.predict_batch, verbose=0))
