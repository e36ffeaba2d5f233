"""Several fits at once, by Spark ML's own tuning and by param maps, on local[4]."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import digits, session
from flambeau.errors import ConfigException
from flambeau.ml import KerasEstimator, KerasModel
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder


@pytest.fixture(scope="module")
def spark():
    """One session for the module: four fits of one worker, or two of two, run at once."""
    with session("local[4]") as spark:
        yield spark


@pytest.fixture(scope="module")
def data(spark):
    """The digits, kept in memory."""
    return digits(spark).cache()


@pytest.fixture(scope="module")
def networks(keras):
    """Two small classifiers, of which the second one is compiled."""

    def network(units):
        keras.utils.set_random_seed(3)
        return keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )

    small, large = network(2), network(32)
    large.compile("sgd", "sparse_categorical_crossentropy")
    return small, large


@pytest.fixture(scope="module")
def estimator(spark, networks):
    """Of the small network."""
    return KerasEstimator(
        model=networks[0],
        optimizer="adam",
        learningRate=0.01,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        featuresCol="image",
        epochs=6,
        verbose=0,
    )


def validated(estimator, networks, data, parallelism):
    """The estimator's models and optimizers, cross validated."""
    import keras

    grid = (
        ParamGridBuilder()
        .addGrid(estimator.model, networks)
        .addGrid(estimator.optimizer, ["adam", keras.optimizers.SGD(momentum=0.5)])
        .build()
    )
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy")
    tuning = CrossValidator(
        estimator=estimator,
        estimatorParamMaps=grid,
        evaluator=accuracy,
        numFolds=2,
        seed=3,
        parallelism=parallelism,
    )
    return tuning.fit(data), accuracy


def test_cross_validation_finds_the_best_network(estimator, networks, data, tmp_path):
    found, accuracy = validated(estimator, networks, data, 4)
    one_by_one, _ = validated(estimator, networks, data, 1)
    assert found.avgMetrics == one_by_one.avgMetrics
    assert max(found.avgMetrics) == found.avgMetrics[2] > min(found.avgMetrics)
    assert isinstance(found.bestModel, KerasModel)
    assert accuracy.evaluate(found.transform(data)) > 0.9
    found.save(str(tmp_path / "found"))
    loaded = CrossValidatorModel.load(str(tmp_path / "found"))
    assert accuracy.evaluate(loaded.transform(data)) == accuracy.evaluate(found.transform(data))


def test_param_maps_take_what_the_estimator_takes(keras, estimator, networks, data, tmp_path):
    networks[1].save(tmp_path / "large.keras")
    maps = [
        {estimator.model: tmp_path / "large.keras"},
        {estimator.model: networks[1], estimator.optimizer: keras.optimizers.Adam(0.5)},
        {estimator.metrics: [keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")]},
    ]
    from_file, from_model, measured = estimator.fit(data, maps)
    assert from_file.to_keras().count_params() == networks[1].count_params()
    assert from_model.history == from_file.history
    assert set(measured.history) == {"loss", "top2"}
    with pytest.raises(TypeError, match=r"float; give a Keras name"):
        estimator.fit(data, {estimator.optimizer: 0.5})
    with pytest.raises(TypeError, match=r"'epochs' is no Param"):
        estimator.fit(data, {"epochs": 2})
    assert estimator.fit(data).history == estimator.fit(data, {}).history
    with pytest.raises(TypeError, match="loss is None: leave it out"):
        KerasEstimator(loss=None)


def test_models_of_many_maps_come_from_any_thread(estimator, data):
    maps = [{estimator.seed: seed, estimator.numWorkers: 1 + seed % 2} for seed in range(6)]
    models = estimator.fitMultiple(data, maps)
    with ThreadPoolExecutor(3) as threads:
        fitted = dict(threads.map(lambda _: next(models), maps))
    with pytest.raises(StopIteration):
        next(models)
    assert sorted(fitted) == list(range(6))
    for index in (0, 5):
        assert fitted[index].history == estimator.fit(data, maps[index]).history


def test_each_value_of_a_column_has_its_model(estimator, data):
    models = estimator.fitEach(data.withColumn("half", data["id"] % 2), "half")
    assert sorted(models) == [0, 1]
    assert all(isinstance(model, KerasModel) for model in models.values())
    assert models[0].history != models[1].history
    assert models[0].transform(data).columns == [*data.columns, "prediction", "output"]
    with pytest.raises(ConfigException, match="'quarter' is no column"):
        estimator.fitEach(data, "quarter")


def test_a_learning_rate_needs_an_optimizer_that_it_is_of(networks, data):
    compiled = KerasEstimator(model=networks[1], featuresCol="image", learningRate=0.1)
    with pytest.raises(ConfigException, match="learningRate is set without optimizer"):
        compiled.fit(data)
