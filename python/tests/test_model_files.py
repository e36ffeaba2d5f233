"""Models and weights in every file format, from Keras and TensorFlow and back to them."""

from __future__ import annotations

import json
import zipfile

import h5py
import numpy as np
import pytest
from cluster import digits, session
from flambeau.errors import ConfigException
from flambeau.ml import KerasEstimator

ROWS = 160
BATCH = 16


@pytest.fixture(scope="module")
def spark():
    """One session for the module."""
    with session("local[1]") as spark:
        yield spark


@pytest.fixture(scope="module")
def data(spark):
    """Rows in one partition, so that their order is known."""
    return digits(spark).orderBy("id").limit(ROWS).coalesce(1).cache()


@pytest.fixture(scope="module")
def arrays(data):
    """The same rows for Keras."""
    rows = data.collect()
    return np.array([row.image for row in rows], np.float32), np.array([row.label for row in rows])


def network(keras, seed: int, nested: bool = True):
    """A functional model around a nested Sequential one with variables of both kinds."""
    keras.utils.set_random_seed(seed)
    inner = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(12, activation="tanh"),
        ],
        name="inner",
    )
    inputs = keras.Input((64,))
    x = keras.layers.Dense(24, activation="relu", use_bias=False)(inputs)
    x = inner(x) if nested else keras.layers.Dense(12)(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


@pytest.fixture(scope="module")
def trained(keras, arrays):
    """The model after some steps in Keras: with moments, moving statistics and a schedule."""
    model = network(keras, 1)
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 4, 0.5)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(*arrays, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    """The trained model's files by format."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("files")
    trained.save(folder / "m.keras")
    trained.save(folder / "m.h5")
    trained.save_weights(folder / "m.weights.h5")
    checkpoint = tf.train.Checkpoint(model=trained).write(str(folder / "m.ckpt"))
    return {
        "keras": folder / "m.keras",
        "h5": folder / "m.h5",
        "weights.h5": folder / "m.weights.h5",
        "tf": checkpoint,
    }


def fit(data, **params):
    """One epoch of one worker over the rows in their order."""
    estimator = KerasEstimator(
        featuresCol="image",
        labelCol="label",
        batchSize=BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        **params,
    )
    return estimator.fit(data)


def assert_same_weights(model, expected, limit: float) -> None:
    """Compare variable by variable, each on its own scale."""
    for own, wanted in zip(model.variables, expected.variables, strict=True):
        wanted = wanted.numpy()
        scale = max(np.abs(wanted).max(), 1e-3)
        np.testing.assert_allclose(own.numpy(), wanted, rtol=0, atol=limit * scale)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_compiled_model_goes_on_where_keras_stopped(keras, trained, files, data, arrays, kind):
    model = fit(data, model=str(files[kind])).to_keras()
    further = keras.models.load_model(files["keras"])
    further.fit(*arrays, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    assert_same_weights(model, further, 1e-4)
    assert model.optimizer.iterations == 2 * ROWS // BATCH
    for own, wanted in zip(model.optimizer.variables, further.optimizer.variables, strict=True):
        scale = max(np.abs(wanted.numpy()).max(), 1e-6)
        np.testing.assert_allclose(own.numpy(), wanted.numpy(), rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("kind", ["keras", "h5", "weights.h5", "tf"])
def test_weights_come_from_every_format(keras, trained, files, data, kind):
    other = network(keras, 2)
    model = fit(
        data,
        model=other.to_json(),
        initialWeights=str(files[kind]),
        # Nothing changes them: no rate, and no statistics of the batches.
        frozenLayers=["inner"],
        optimizer=keras.optimizers.SGD(0.0),
        loss="sparse_categorical_crossentropy",
    ).to_keras()
    assert_same_weights(model, trained, 0.0)


def test_layers_that_differ_are_named_or_skipped(keras, trained, files, data):
    other = network(keras, 2, nested=False)
    settings = {
        "model": other.to_json(),
        "initialWeights": str(files["weights.h5"]),
        "optimizer": keras.optimizers.SGD(0.0),
        "loss": "sparse_categorical_crossentropy",
    }
    with pytest.raises(ConfigException, match=r"dense_\d+/kernel: .*expected \[24, 12\]"):
        fit(data, **settings)
    model = fit(data, skipMismatch=True, **settings).to_keras()
    np.testing.assert_array_equal(model.weights[0], trained.weights[0])
    assert model.weights[1].shape == (24, 12)
    with pytest.raises(ConfigException, match="does not exist"):
        fit(data, **{**settings, "initialWeights": "/nowhere/model.weights.h5"})


def test_keras_and_tensorflow_read_every_export(keras, trained, files, data, tmp_path):
    import tensorflow as tf

    model = fit(
        data,
        model=str(files["keras"]),
        modelDir=str(tmp_path),
        exportFormats=["keras", "weights.h5", "h5", "tf"],
    ).to_keras()
    export = tmp_path / "export"

    legacy = keras.models.load_model(export / "model.h5")
    assert_same_weights(legacy, model, 0.0)
    # Keras itself restores no more than the count from this format.
    assert legacy.optimizer.iterations == model.optimizer.iterations
    with h5py.File(export / "model.h5") as file:
        group = file["optimizer_weights"]
        saved = [group[name][()] for name in group.attrs["weight_names"]]
    for own, wanted in zip(saved, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(own, wanted.numpy())

    by_weights = network(keras, 3)
    by_weights.load_weights(export / "model.weights.h5")
    assert_same_weights(by_weights, model, 0.0)

    prefix = str(export / "model.ckpt")
    names = [name for name, _ in tf.train.list_variables(prefix)]
    assert len([name for name in names if name.startswith("model/")]) == len(model.variables)
    restored = network(keras, 4)
    status = tf.train.Checkpoint(model=restored).restore(prefix)
    status.assert_existing_objects_matched()
    assert_same_weights(restored, model, 0.0)


def test_a_vocabulary_is_exported_as_h5_only_where_the_config_holds_it(keras, spark, tmp_path):
    data = spark.createDataFrame([("a", 0.0), ("b", 1.0)], "word STRING, label FLOAT")

    def fitted(lookup):
        model = keras.Sequential(
            [
                keras.Input((1,), dtype="string"),
                lookup,
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse")
        estimator = KerasEstimator(
            model=model, featuresCol="word", modelDir=str(tmp_path), exportFormats=["h5"]
        )
        return estimator.fit(data).to_keras()

    adapted = keras.layers.StringLookup(name="words", output_mode="one_hot")
    adapted.adapt(np.array([["a"], ["b"]]))
    with pytest.raises(
        ConfigException, match=r'has h5.*: layer "words" \(StringLookup\): it has no'
    ):
        fitted(adapted)
    given = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    model = fitted(given)
    # Keras itself writes a file here that it cannot open: "mse" is no name that it finds again.
    legacy = keras.models.load_model(tmp_path / "export/model.h5")
    assert_same_weights(legacy, model, 0.0)
    assert legacy.loss is keras.losses.mean_squared_error
    assert legacy.layers[0].get_vocabulary() == ["[UNK]", "a", "b"]


def branches(keras):
    """Layers at the same depth, whose order follows from nothing but how they are reached."""
    keras.utils.set_random_seed(8)
    dense, normalization = keras.layers.Dense(10), keras.layers.BatchNormalization()
    inner = keras.Sequential([keras.Input((10,)), dense, normalization], name="inner")
    inputs = keras.Input((64,))
    left, right = keras.layers.Dense(10)(inputs), keras.layers.Dense(10)(inputs)
    deep = keras.layers.Dense(10, activation="relu")(right)
    joined = keras.layers.Add()([inner(left), deep, inner(right)])
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(joined))
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    return model


def reverse_layers(path) -> None:
    """List the layers of a model's file the other way round, as Keras does not but reads."""

    def reversed_config(text: str | bytes) -> str:
        document = json.loads(text)
        document["config"]["layers"].reverse()
        return json.dumps(document)

    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = reversed_config(file.attrs["model_config"])
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, reversed_config(content) if name == "config.json" else content)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_layers_listed_in_another_order_have_their_weights(keras, data, arrays, tmp_path, kind):
    path = tmp_path / f"m.{kind}"
    branches(keras).save(path)
    reverse_layers(path)
    expected = keras.models.load_model(path)
    model = fit(data, model=str(path), frozenLayers=["inner"]).to_keras()
    assert [layer.name for layer in model.layers] == [layer.name for layer in expected.layers]
    assert_same_weights(model, expected, 0.0)
    images, _ = arrays
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected.predict(images, verbose=0), atol=1e-6
    )
