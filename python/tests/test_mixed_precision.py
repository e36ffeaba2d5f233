"""Models that compute in 16 bits, trained as Keras trains them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cluster import digits, session
from flambeau.ml import KerasEstimator
from pyspark.sql import SparkSession

EPOCHS = 3
BATCH = 50


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    """A session of one executor."""
    with session("local-cluster[1,1,2048]") as spark:
        yield spark


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_bfloat16", 2e-2), ("mixed_float16", 2e-3)]
)
def test_a_fit_in_16_bits_is_that_of_keras(spark, keras, tmp_path, policy, tolerance):
    data = digits(spark).coalesce(1).sortWithinPartitions("id").cache()
    rows = data.collect()
    x, y = np.array([row.image for row in rows], "float32"), np.array([row.label for row in rows])
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(3)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(32, activation="relu"),
                layers.Dense(10, activation="softmax", dtype="float32"),
            ]
        )
        given = keras.models.clone_model(model)
        given.set_weights(model.get_weights())
        # As `compile` does for a model of this policy, a loss is scaled in float16.
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        expected = model.fit(x, y, BATCH, EPOCHS, shuffle=False, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    fitted = KerasEstimator(
        model=given,
        optimizer=keras.optimizers.SGD(0.1),
        loss="sparse_categorical_crossentropy",
        featuresCol="image",
        batchSize=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        modelDir=str(tmp_path),
    ).fit(data)
    np.testing.assert_allclose(fitted.history["loss"], expected, rtol=tolerance)
    # In 16 bits, and not in more.
    assert np.any(np.array(fitted.history["loss"]) != float32_loss(keras, given, x, y))

    exported = keras.models.load_model(tmp_path / "export" / "model.keras")
    assert [layer.dtype_policy.name for layer in exported.layers] == [policy, "float32"]
    scales = isinstance(exported.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (policy == "mixed_float16")
    for ours, theirs in zip(exported.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def float32_loss(keras, given, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the same fit comes to in float32."""
    layers = keras.layers
    plain = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    plain.set_weights(given.get_weights())
    plain.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return np.array(plain.fit(x, y, BATCH, EPOCHS, shuffle=False, verbose=0).history["loss"])
