"""A distributed fit with weighted rows and objects in `compile`, beside Keras on the same batches.

Keras computes each batch of two workers as one, so that the sums of both must be exact.
"""

from __future__ import annotations

import numpy as np
import pytest
from cluster import session
from flambeau.ml import KerasEstimator

WORKERS, BATCH, EPOCHS = 2, 8, 2
# Of each worker. All batches are full: of an output's loss, Keras gives the mean over batches.
TRAINING, VALIDATION = 64, 20


def compiled(keras):
    """A model with two outputs, whose optimizer, losses and metrics are objects with arguments."""
    keras.utils.set_random_seed(6)
    inputs = keras.Input((5,), name="x")
    hidden = keras.layers.Dense(7, activation="tanh")(inputs)
    outputs = {
        "kind": keras.layers.Dense(3, name="kind")(hidden),
        "size": keras.layers.Dense(2, name="size")(hidden),
    }
    model = keras.Model(inputs, outputs)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.02, 0.01])
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01, name="own"),
        loss={
            "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "size": keras.losses.MeanSquaredError(reduction="sum", name="distance"),
        },
        loss_weights={"kind": 1.0, "size": 0.02},
        metrics={
            "kind": [keras.metrics.SparseTopKCategoricalAccuracy(2, name="second")],
            "size": [keras.metrics.MeanSquaredError(name="square")],
        },
        weighted_metrics={
            "kind": [keras.metrics.SparseCategoricalAccuracy(name="right")],
            "size": [keras.metrics.RootMeanSquaredError(), keras.metrics.R2Score()],
        },
    )
    return model


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Made-up rows, first those of worker 0; weights from 0 to 3."""
    rng = np.random.default_rng(9)
    count = WORKERS * (TRAINING + VALIDATION)
    x = rng.normal(size=(count, 5)).astype(np.float32)
    return {
        "x": x,
        "kind": rng.integers(0, 3, count),
        "size": (x[:, :2] + rng.normal(size=(count, 2))).astype(np.float32),
        "weight": rng.choice([0.0, 0.5, 1.0, 3.0], count).astype(np.float32),
        "held": np.arange(count) % (TRAINING + VALIDATION) >= TRAINING,
    }


@pytest.fixture(scope="module")
def fitted(keras, rows):
    """Trained by two workers, each with a half of the rows in their order."""
    with session(f"local[{WORKERS}]") as spark:
        columns = zip(*(values.tolist() for values in rows.values()), strict=True)
        schema = "x ARRAY<FLOAT>, kind INT, size ARRAY<FLOAT>, weight FLOAT, held BOOLEAN"
        data = spark.createDataFrame(spark.sparkContext.parallelize(list(columns), WORKERS), schema)
        model = KerasEstimator(
            model=compiled(keras),
            featuresCol="x",
            labelMapping={"kind": "kind", "size": "size"},
            weightCol="weight",
            validationIndicatorCol="held",
            batchSize=BATCH,
            epochs=EPOCHS,
            numWorkers=WORKERS,
            shuffle=False,
        ).fit(data)
        return model.history, model.to_keras()


def keras_fit(model, rows, epochs: int) -> dict[str, list[float]]:
    """Keras on the batches that the workers have together."""
    halves = np.split(np.arange(len(rows["held"])), WORKERS)
    order = [
        at
        for start in range(0, TRAINING, BATCH)
        for half in halves
        for at in half[:TRAINING][start : start + BATCH]
    ]
    held = [at for half in halves for at in half[TRAINING:]]

    def part(at):
        labels = {name: rows[name][at] for name in ("kind", "size")}
        return rows["x"][at], labels, {name: rows["weight"][at] for name in labels}

    x, labels, weights = part(order)
    return model.fit(
        x,
        labels,
        sample_weight=weights,
        validation_data=part(held),
        batch_size=WORKERS * BATCH,
        validation_batch_size=len(held),
        epochs=epochs,
        shuffle=False,
        verbose=0,
    ).history


def assert_same(ours, theirs, history, expected) -> None:
    """Compare the values of each epoch and the weights."""
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=2e-5, err_msg=name)
    for own, wanted in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(own.numpy(), wanted.numpy(), rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def theirs(keras, rows):
    """Trained by Keras."""
    model = compiled(keras)
    return keras_fit(model, rows, EPOCHS), model


def test_weighted_losses_metrics_and_weights_are_those_of_keras(fitted, theirs):
    (history, ours), (expected, model) = fitted, theirs
    assert_same(ours, model, history, expected)


def test_keras_goes_on_with_the_export_as_with_its_own_model(fitted, theirs, rows):
    (_, ours), (_, model) = fitted, theirs
    assert ours.optimizer.get_config() == model.optimizer.get_config()
    expected = keras_fit(model, rows, 1)
    assert_same(ours, model, keras_fit(ours, rows, 1), expected)
