"""The event files of a fit beside those that Keras's TensorBoard callback writes of the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cluster import digits, session
from flambeau.ml import KerasEstimator

ROWS, HELD_OUT, BATCH, EPOCHS = 160, 32, 16, 3


@pytest.fixture(scope="module")
def model(keras):
    """A compiled model whose learning rate changes and whose updates take two steps."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
    optimizer = keras.optimizers.SGD(rate, gradient_accumulation_steps=2)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def folders(keras, model, tmp_path_factory):
    """Our model directory and Keras's log directory, of the same batches in the same order."""
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    with session("local[1]") as spark:
        data = digits(spark).orderBy("id").limit(ROWS).coalesce(1)
        data = data.selectExpr("*", f"id < {HELD_OUT} AS held").cache()
        rows = data.collect()
        KerasEstimator(
            model=model,
            featuresCol="image",
            validationIndicatorCol="held",
            batchSize=BATCH,
            epochs=EPOCHS,
            shuffle=False,
            modelDir=str(ours),
        ).fit(data)
    x = np.array([row.image for row in rows], np.float32)
    y = np.array([row.label for row in rows])
    model.fit(
        x[HELD_OUT:],
        y[HELD_OUT:],
        validation_data=(x[:HELD_OUT], y[:HELD_OUT]),
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.TensorBoard(theirs, update_freq="batch")],
    )
    return ours, theirs


def events(folder: Path):
    """What TensorBoard reads in a folder, all of it instead of a sample."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """The values of each tag by step; all are of TensorBoard's plugin for scalars."""
    import tensorflow as tf

    accumulator = events(folder)
    return {
        tag: {event.step: tf.make_ndarray(event.tensor_proto) for event in accumulator.Tensors(tag)}
        for tag in accumulator.PluginTagToContent("scalars")
    }


@pytest.mark.parametrize("folder", ["train", "validation"])
def test_tags_steps_and_values_are_those_of_keras(folders, folder):
    ours, theirs = (scalars(each / folder) for each in folders)
    rows_per_second = ours.pop("rows_per_second", {})
    assert ours.keys() == theirs.keys()
    for tag, expected in theirs.items():
        if tag.startswith("batch_"):
            # Ours come with the progress that is told, a few times a second.
            assert rows_per_second.keys() == ours[tag].keys() <= expected.keys()
        else:
            assert ours[tag].keys() == expected.keys()
        for step, value in ours[tag].items():
            assert (value.dtype, value.shape) == (expected[step].dtype, expected[step].shape)
            assert value == pytest.approx(expected[step], rel=1e-5)


def test_the_graph_plugin_sees_the_layers(folders):
    import json

    import tensorflow as tf
    from tensorboard.plugins.graph.keras_util import keras_model_to_graph_def

    graphs = []
    for folder in folders:
        accumulator = events(folder / "train")
        assert accumulator.PluginTagToContent("graph_keras_model") == {"keras": b"1"}
        [event] = accumulator.Tensors("keras")
        assert event.step == 0
        config = tf.make_ndarray(event.tensor_proto).item()
        graphs.append(keras_model_to_graph_def(json.loads(config)))
    assert graphs[0] == graphs[1]
