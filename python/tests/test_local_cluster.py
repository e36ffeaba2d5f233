"""KerasEstimator with its ranks in two executor processes."""

from __future__ import annotations

from cluster import digits, session
from flambeau.ml import KerasEstimator


def test_two_executors_train_one_model(keras):
    network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    with session("local-cluster[2,1,1024]") as spark:
        data = digits(spark)
        model = KerasEstimator(
            model=network.to_json(),
            optimizer=keras.optimizers.Adam(0.02),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            featuresCol="image",
            epochs=10,
            numWorkers=2,
            seed=1,
        ).fit(data)
        accuracy = model.history["accuracy"]
        wrong = model.transform(data).where("prediction != label").count()
    assert accuracy[-1] > 0.9
    assert wrong < 60
