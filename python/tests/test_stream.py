"""A model trained on a stream from PySpark, and applied to one."""

from __future__ import annotations

import pytest
from cluster import digits, session
from flambeau.errors import ConfigException
from flambeau.ml import KerasEstimator, KerasModel


@pytest.fixture(scope="module")
def spark():
    """Executors of their own, between whose micro-batches the model stays."""
    with session("local-cluster[2,1,1024]") as spark:
        yield spark


@pytest.fixture(scope="module")
def arriving(spark, tmp_path_factory):
    """A directory with the digits in six files, and their schema."""
    folder = str(tmp_path_factory.mktemp("arriving") / "digits")
    rows = digits(spark)
    rows.repartition(6).write.parquet(folder)
    return folder, rows.schema


def test_a_model_is_trained_on_a_stream_and_applied_to_it(spark, keras, arriving, tmp_path):
    folder, schema = arriving
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    estimator = KerasEstimator(
        model=model,
        optimizer={"class_name": "Adam", "config": {"learning_rate": 0.01}},
        loss="sparse_categorical_crossentropy",
        featuresCol="image",
        epochs=10,
        numWorkers=2,
        modelDir=str(tmp_path / "model"),
        verbose=0,
    )

    def train(files_a_batch: int) -> int:
        stream = spark.readStream.schema(schema).option("maxFilesPerTrigger", files_a_batch)
        query = (
            stream.parquet(folder)
            .writeStream.foreachBatch(estimator.fitBatch)
            .option("checkpointLocation", str(tmp_path / "state"))
            .trigger(availableNow=True)
            .start()
        )
        assert query.awaitTermination(180)
        return len(query.recentProgress)

    assert train(2) == 3
    export = str(tmp_path / "model" / "export" / "model.keras")
    first = (tmp_path / "model" / "checkpoint").read_text()
    train(2)
    assert (tmp_path / "model" / "checkpoint").read_text() == first, "nothing new has arrived"

    trained = KerasModel.from_file(spark, export, featuresCol="image")
    query = (
        trained.transform(spark.readStream.schema(schema).parquet(folder))
        .writeStream.option("checkpointLocation", str(tmp_path / "predict"))
        .trigger(availableNow=True)
        .start(str(tmp_path / "predicted"))
    )
    assert query.awaitTermination(120)
    predicted = spark.read.parquet(str(tmp_path / "predicted"))
    right = predicted.where("prediction = label").count()
    assert right > 0.9 * predicted.count()


def test_a_stream_needs_a_model_directory(spark, keras, arriving):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    estimator = KerasEstimator(model=model, optimizer="adam", loss="mse", featuresCol="image")
    with pytest.raises(ConfigException, match="modelDir is not set"):
        estimator.fitBatch(spark.read.parquet(arriving[0]), 0)
