"""KerasEstimator and KerasModel on local[2], two ranks in one JVM."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cluster import digits, session
from flambeau.errors import ConfigException, DataException
from flambeau.ml import KerasEstimator, KerasModel
from pyspark.ml import Pipeline, PipelineModel

EPOCHS = 8


@pytest.fixture(scope="module")
def spark():
    """One session for the module."""
    with session("local[2]") as spark:
        yield spark


@pytest.fixture(scope="module")
def data(spark):
    """The digits, kept in memory."""
    return digits(spark).cache()


@pytest.fixture(scope="module")
def network(keras):
    """A small classifier, not compiled."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def estimator(spark, network):
    """Two workers, from the model's JSON."""
    return KerasEstimator(
        model=network.to_json(),
        optimizer={"class_name": "Adam", "config": {"learning_rate": 0.01}},
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        featuresCol="image",
        labelCol="label",
        batchSize=16,
        epochs=EPOCHS,
        numWorkers=2,
        seed=5,
        validationSplit=0.2,
    )


@pytest.fixture(scope="module")
def fitted(estimator, data):
    """The trained model."""
    return estimator.fit(data)


def accuracy(model, data) -> float:
    """The share of rows whose prediction is their label."""
    [row] = model.transform(data).selectExpr("avg(int(prediction = label)) AS accuracy").collect()
    return row.accuracy


def test_a_fitted_model_knows_the_digits_and_keeps_every_column(fitted, data):
    assert isinstance(fitted, KerasModel)
    assert fitted.transform(data).columns[:3] == data.columns
    assert accuracy(fitted, data) > 0.95


def test_workers_with_parts_of_the_optimizer_state_train_the_same_weights(estimator, fitted, data):
    sharded = estimator.copy({estimator.shardOptimizerState: True}).fit(data)
    assert sharded.history == fitted.history
    with pytest.raises(ConfigException, match="localSteps above 1 exclude each other"):
        sharded = estimator.copy({estimator.shardOptimizerState: True, estimator.localSteps: 4})
        sharded.fit(data)


def test_rows_of_another_frame_validate(spark, network, data):
    train, held = data.where("id % 4 > 0"), data.where("id % 4 = 0")
    settings = {"loss": "sparse_categorical_crossentropy", "featuresCol": "image", "epochs": 2}
    estimator = KerasEstimator(model=network, optimizer="adam", verbose=0, **settings)
    marked = data.withColumn("held", data["id"] % 4 == 0)
    model = estimator.fit(train, validation_data=held)
    other = estimator.copy({estimator.validationIndicatorCol: "held"}).fit(marked)
    assert len(model.history["val_loss"]) == 2
    assert model.history["val_loss"] == pytest.approx(other.history["val_loss"], rel=0.2)
    [first, second] = estimator.fit(
        train, [{estimator.epochs: 1}, {estimator.seed: 9}], validation_data=held
    )
    assert (len(first.history["val_loss"]), len(second.history["val_loss"])) == (1, 2)
    with pytest.raises(ConfigException, match="clear it"):
        estimator.copy({estimator.validationSplit: 0.1}).fit(train, validation_data=held)


def test_workers_read_files_by_themselves(spark, network, data, tmp_path):
    path = str(tmp_path / "digits")
    data.repartition(4).write.format("tfrecord").save(path)
    table = spark.read.format("tfrecord").schema(data.schema).load(path)
    settings = {"loss": "sparse_categorical_crossentropy", "featuresCol": "image", "verbose": 0}
    estimator = KerasEstimator(
        model=network,
        optimizer="adam",
        metrics=["accuracy"],
        inputMode="direct",
        shuffleBuffer=500,
        localSteps=3,
        globalBatchSize=30,
        numWorkers=2,
        maxSteps=300,
        stepsPerEpoch=50,
        repeat=True,
        **settings,
    )
    model = estimator.fit(table, validation_data=data)
    assert len(model.history["loss"]) == 6
    assert model.history["val_accuracy"][-1] > 0.9
    with pytest.raises(DataException, match="inputMode is direct, but the training data comes"):
        estimator.fit(table.orderBy("label"))


def test_workers_push_to_servers(spark, network, data):
    settings = {"loss": "sparse_categorical_crossentropy", "featuresCol": "image", "verbose": 0}
    estimator = KerasEstimator(
        model=network,
        optimizer="adam",
        metrics=["accuracy"],
        strategy="async",
        numPs=1,
        maxStaleness=5,
        epochs=8,
        **settings,
    )
    assert estimator.fit(data).history["accuracy"][-1] > 0.9
    assert estimator.copy({estimator.numPs: 0}).fit(data).history["accuracy"][-1] > 0.9
    with pytest.raises(ConfigException, match="numPs is set, but strategy is sync"):
        estimator.copy({estimator.strategy: "sync"}).fit(data)


def test_an_evaluator_validates_beside_training(estimator, data, tmp_path):
    # All checkpoints stay: the evaluator may begin when training is epochs ahead.
    one = estimator.copy({estimator.numWorkers: 1, estimator.keepCheckpoints: 20})
    beside = one.copy({one.evaluator: True, one.modelDir: str(tmp_path / "model")}).fit(data)
    assert beside.history == one.fit(data).history
    assert json.loads((tmp_path / "model/history.json").read_text()) == beside.history
    with pytest.raises(ConfigException, match="modelDir is not set"):
        one.copy({one.evaluator: True}).fit(data)


def test_the_history_has_loss_metrics_and_their_validation(fitted):
    assert set(fitted.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == EPOCHS for values in fitted.history.values())
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]


def test_a_saved_model_predicts_the_same(fitted, data, tmp_path):
    fitted.write().overwrite().save(str(tmp_path / "model"))
    loaded = KerasModel.load(str(tmp_path / "model"))
    assert loaded.uid == fitted.uid
    assert loaded.history == fitted.history
    assert outputs(loaded, data).tolist() == outputs(fitted, data).tolist()


def test_a_saved_estimator_has_its_params(estimator, tmp_path):
    estimator.save(str(tmp_path / "estimator"))
    loaded = KerasEstimator.load(str(tmp_path / "estimator"))
    for param in ("batchSize", "metrics", "optimizer", "validationSplit", "nullPolicy"):
        assert loaded.getOrDefault(param) == estimator.getOrDefault(param)


def test_it_is_a_stage_of_a_pipeline_that_can_be_saved(estimator, data, tmp_path):
    one_epoch = estimator.copy({estimator.epochs: 1})
    pipeline = Pipeline(stages=[one_epoch]).fit(data)
    pipeline.save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    assert isinstance(loaded.stages[0], KerasModel)
    assert outputs(loaded, data).tolist() == outputs(pipeline, data).tolist()


def outputs(model, data) -> np.ndarray:
    """The model's outputs in the order of the rows' ids."""
    rows = model.transform(data).orderBy("id").select("output").collect()
    return np.array([row.output for row in rows], dtype=np.float32)


def test_a_keras_model_goes_over_and_comes_back_with_its_weights(network, data):
    images = np.array([row.image for row in data.orderBy("id").collect()], dtype=np.float32)
    expected = network.predict(images, verbose=0)

    model = KerasModel.from_keras(network, featuresCol="image")
    np.testing.assert_allclose(outputs(model, data), expected, atol=1e-6)
    assert model.history == {}

    back = model.to_keras()
    for ours, theirs in zip(back.get_weights(), network.get_weights(), strict=True):
        assert ours.tolist() == theirs.tolist()


def test_training_starts_from_the_weights_and_compile_settings_of_a_keras_model(
    keras, network, data
):
    # With a learning rate of zero the weights must stay what they are.
    network.compile(optimizer=keras.optimizers.SGD(0.0), loss="sparse_categorical_crossentropy")
    model = KerasEstimator(model=network, featuresCol="image", labelCol="label").fit(data)

    for ours, theirs in zip(model.to_keras().get_weights(), network.get_weights(), strict=True):
        assert ours.tolist() == theirs.tolist()
    assert set(model.history) == {"loss"}


def test_given_settings_win_over_the_compiled_ones(keras, network, data):
    network.compile(optimizer=keras.optimizers.SGD(0.0), loss="sparse_categorical_crossentropy")
    model = KerasEstimator(
        model=network,
        optimizer=keras.optimizers.Adam(0.01),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")],
        featuresCol="image",
        epochs=2,
    ).fit(data)
    assert set(model.history) == {"loss", "top2"}
    assert model.history["loss"][1] < model.history["loss"][0]


def test_an_unknown_column_is_named(estimator, data):
    with pytest.raises(DataException, match="colour"):
        estimator.copy({estimator.featuresCol: "colour"}).fit(data)


def test_an_unknown_layer_is_named(estimator, data):
    unknown = KerasEstimator(
        model='{"class_name": "Sequential", "config": {"name": "m", "layers": ['
        '{"class_name": "InputLayer", "config": {"batch_shape": [null, 64], "name": "in"}},'
        '{"class_name": "Warp", "config": {"name": "w"}}]}}',
        optimizer="sgd",
        loss="mse",
        featuresCol="image",
    )
    with pytest.raises(ConfigException, match=r"\(Warp\): this class is not supported"):
        unknown.fit(data)
