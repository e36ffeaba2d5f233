"""What columns become on their way into a model, beside TensorFlow and Keras, on local[2]."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal

import numpy as np
import pytest
from cluster import session
from flambeau.errors import DataException
from flambeau.ml import KerasEstimator, KerasModel
from PIL import Image
from py4j.protocol import Py4JJavaError


@pytest.fixture(scope="module")
def spark():
    """One session for the module."""
    with session("local[2]") as spark:
        yield spark


@pytest.fixture(scope="module")
def tf(keras):
    """TensorFlow, imported where Keras is."""
    import tensorflow

    return tensorflow


def outputs(model, data) -> np.ndarray:
    """The model's outputs in the order of the rows' ids."""
    rows = model.transform(data).orderBy("id").select("output").collect()
    return np.array([row.output for row in rows], dtype=np.float32)


def echo(keras, shape, dtype="float32") -> object:
    """A model that gives its input back."""
    inputs = keras.Input(shape, dtype=dtype, name="x")
    return keras.Model(inputs, keras.ops.cast(inputs, "float32") * 1.0)


def test_points_in_time_and_decimals_are_numbers(spark, keras):
    time = datetime.datetime(2026, 5, 21, 11, 49, 56, 561506, tzinfo=datetime.UTC)
    wide = Decimal("-12345678901234567890.5")
    days = [datetime.date(1969, 12, 31), datetime.date(2026, 5, 21)]
    rows = [
        (0, days[0], time, Decimal("19.99"), Decimal("1e-18"), [Decimal("1.5")], [True], days[:1]),
        (1, days[1], time, Decimal("-0.5"), wide, [Decimal("-2")], [False], days[:1]),
    ]
    schema = (
        "id INT, day DATE, at TIMESTAMP, price DECIMAL(10,2), wide DECIMAL(38,18), "
        "list ARRAY<DECIMAL(4,1)>, flags ARRAY<BOOLEAN>, eve ARRAY<DATE>"
    )
    data = spark.createDataFrame(rows, schema).selectExpr("*", "to_timestamp_ntz(day) as local")
    columns = ["day", "at", "price", "wide", "list", "local", "flags", "eve"]
    found = outputs(KerasModel.from_keras(echo(keras, (8,)), featureCols=columns), data)
    since = [(day - datetime.date(1970, 1, 1)).days for day in days]
    expected = [
        [since[0], time.timestamp(), 19.99, 1e-18, 1.5, since[0] * 86400, 1, -1],
        [since[1], time.timestamp(), -0.5, float(wide), -2, since[1] * 86400, 0, -1],
    ]
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


def test_whole_seconds_and_decimals_feed_integer_inputs(spark, keras):
    data = spark.sql(
        "SELECT 0 AS id, timestamp '2026-05-21 11:49:56Z' AS at, DECIMAL(7.00) AS count"
    )
    inputs = [keras.Input((), dtype="int64", name=name) for name in ("at", "count")]
    model = keras.Model(inputs, keras.ops.stack([inputs[0] - 1_779_000_000, inputs[1]], axis=1))
    found = outputs(KerasModel.from_keras(model, featureCols=["at", "count"]), data)
    assert found.tolist() == [[364196.0, 7.0]]
    half = data.selectExpr("id", "at + interval 500 milliseconds AS at", "count")
    with pytest.raises(Py4JJavaError, match=r"1779364196\.500000 of column 'at' in row 0"):
        outputs(KerasModel.from_keras(model, featureCols=["at", "count"]), half)


def classifier(keras, loss: str):
    """Two layers for three classes."""
    keras.utils.set_random_seed(3)
    layers = [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def labelled(spark):
    """Rows with a class id, and the same as a vector."""
    rng = np.random.default_rng(5)
    x, ids = rng.normal(size=(96, 4)).astype(np.float32), rng.integers(0, 3, 96)
    rows = [
        (i, x[i].tolist(), int(ids[i]), np.eye(3, dtype=int)[ids[i]].tolist()) for i in range(96)
    ]
    data = spark.createDataFrame(rows, "id INT, x ARRAY<FLOAT>, kind INT, vector ARRAY<BIGINT>")
    return data.coalesce(1), x, ids


@pytest.mark.parametrize(
    ("loss", "column", "encoding"),
    [
        ("sparse_categorical_crossentropy", "vector", "argmax"),
        ("categorical_crossentropy", "kind", "one_hot"),
    ],
)
def test_encoded_labels_train_as_keras_on_the_encoded_ones(
    spark, keras, labelled, loss, column, encoding
):
    data, x, ids = labelled
    settings = {"featuresCol": "x", "labelCol": column, "batchSize": 16, "shuffle": False}
    fitted = KerasEstimator(
        model=classifier(keras, loss), labelEncoding=encoding, epochs=2, **settings
    ).fit(data)
    model = classifier(keras, loss)
    y = ids if encoding == "argmax" else keras.utils.to_categorical(ids, 3)
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    for name, values in history.items():
        np.testing.assert_allclose(fitted.history[name], values, rtol=1e-5, err_msg=name)


def test_labels_that_are_not_what_their_encoding_says_are_named(keras, labelled):
    data, *_ = labelled
    wrong = data.selectExpr(
        "x", "if(id = 5, array(1, 1, 0), vector) AS vector", "kind + id AS kind"
    )
    settings = {"featuresCol": "x", "batchSize": 16}
    sparse = classifier(keras, "sparse_categorical_crossentropy")
    with pytest.raises(DataException, match=r"the values \[1, 1, 0\] of column 'vector' in row 5"):
        KerasEstimator(model=sparse, labelCol="vector", labelEncoding="argmax", **settings).fit(
            wrong
        )
    dense = classifier(keras, "categorical_crossentropy")
    with pytest.raises(
        DataException, match=r"label \d+ of column 'kind' in row \d+ .* range \[0, 3\)"
    ):
        KerasEstimator(model=dense, labelCol="kind", labelEncoding="one_hot", **settings).fit(wrong)
    with pytest.raises(DataException, match="'one_hot' is for a loss over the values"):
        KerasEstimator(model=sparse, labelCol="kind", labelEncoding="one_hot", **settings).fit(data)
    with pytest.raises(DataException, match="names 'kind', which is no output"):
        KerasEstimator(
            model=sparse, labelCol="kind", labelEncoding={"kind": "argmax"}, **settings
        ).fit(data)


def encoded(image: np.ndarray, kind: str) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photos(spark):
    """Smooth pictures of several sizes, most of them as PNG files, every third as JPEG."""
    files = []
    for i in range(12):
        y, x = np.mgrid[0 : 20 + i, 0 : 30 - i]
        picture = np.stack([x * 8, y * 6, (x + y) * 4], -1) % 256
        files.append(encoded(picture.astype(np.uint8), "JPEG" if i % 3 == 0 else "PNG"))
    rows = [(i, bytearray(file), i % 3) for i, file in enumerate(files)]
    return spark.createDataFrame(rows, "id INT, photo BINARY, label INT"), files


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_images_are_those_of_tensorflow(spark, keras, tf, photos, method, channels):
    data, files = photos
    inputs = keras.Input((16, 16, channels), name="photo")
    model = keras.Model(inputs, keras.layers.Flatten()(inputs))
    stage = KerasModel.from_keras(
        model, featuresCol="photo", imageCols=["photo"], imageResize=method
    )
    found = outputs(stage, data).reshape(-1, 16, 16, channels)
    for i, file in enumerate(files):
        image = tf.io.decode_image(file, channels)
        theirs = tf.round(tf.image.resize(tf.cast(image, tf.float32), (16, 16), method)).numpy()
        # TensorFlow decodes JPEG files by a faster, less exact transform.
        off = 8 if i % 3 == 0 else 0
        assert np.abs(found[i] - theirs).max() <= off, i


def test_a_model_trains_on_encoded_images_as_keras_on_their_pixels(spark, keras, tf, photos):
    data, files = photos
    pixels = [tf.io.decode_image(file, 3) for i, file in enumerate(files) if i % 3]
    pixels = [tf.image.resize(tf.cast(image, tf.float32), (16, 16)) for image in pixels]
    x = tf.round(tf.stack(pixels)).numpy()
    y = np.array([i % 3 for i in range(len(files)) if i % 3])

    def network():
        keras.utils.set_random_seed(4)
        layers = keras.layers
        steps = [
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
        ]
        model = keras.Sequential([keras.Input((16, 16, 3)), *steps, layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss)
        return model

    fitted = KerasEstimator(
        model=network(), featuresCol="photo", imageCols=["photo"], imageResize="bilinear",
        batchSize=4, epochs=3, shuffle=False,
    ).fit(data.where("id % 3 > 0").coalesce(1))  # fmt: skip
    history = network().fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0).history
    np.testing.assert_allclose(fitted.history["loss"], history["loss"], rtol=1e-4)
    # The model knows its columns and what they hold.
    assert len(outputs(fitted, data)) == 12


def test_images_of_sparks_data_source_are_taken_as_they_are(spark, keras, photos, tmp_path):
    _, files = photos
    picture = np.asarray(Image.open(io.BytesIO(files[1])))
    (tmp_path / "one.png").write_bytes(files[1])
    data = spark.read.format("image").load(str(tmp_path)).selectExpr("0 AS id", "image")
    inputs = keras.Input(picture.shape, dtype="uint8", name="image")
    model = keras.Model(inputs, keras.layers.Flatten(dtype="uint8")(inputs))
    found = outputs(KerasModel.from_keras(model, featuresCol="image"), data)
    np.testing.assert_array_equal(found.reshape(picture.shape), picture)


def test_an_image_that_does_not_fit_is_named(spark, keras, photos):
    data, files = photos
    inputs = keras.Input((21, 29, 3), name="photo")
    model = keras.Model(inputs, keras.layers.Flatten()(inputs))
    stage = KerasModel.from_keras(model, featuresCol="photo", imageCols=["photo"])
    found = outputs(stage, data.where("id = 1"))
    assert np.array_equal(found.reshape(21, 29, 3), np.asarray(Image.open(io.BytesIO(files[1]))))
    with pytest.raises(
        Py4JJavaError, match="in row 0 .* is 22 pixels high and 28 wide, .* 21 and 29"
    ):
        outputs(stage, data.where("id = 2"))
    cut = data.where("id = 1").selectExpr("id", "substring(photo, 1, length(photo) - 40) AS photo")
    with pytest.raises(
        Py4JJavaError, match="'photo' holds no image in row 0 .* PNG image is damaged"
    ):
        outputs(stage, cut)
    with pytest.raises(DataException, match="imageCols names 'other', which is no feature column"):
        KerasModel.from_keras(model, featuresCol="photo", imageCols=["other"]).transform(data)
    with pytest.raises(DataException, match="imageCols 'id' has type INT; it must be binary"):
        KerasModel.from_keras(model, featuresCol="id", imageCols=["id"]).transform(data)


def test_a_damaged_image_is_left_out_of_training_where_nulls_are(spark, keras, photos):
    data, _ = photos
    whole = data.where("id = 1").selectExpr("photo", "0.0 AS label")
    cut = whole.selectExpr("substring(photo, 1, length(photo) - 40) AS photo", "label")
    model = keras.Sequential(
        [keras.Input((21, 29, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    settings = {"optimizer": "sgd", "loss": "mse", "imageCols": ["photo"], "verbose": 0}
    estimator = KerasEstimator(model=model, featuresCol="photo", **settings)
    with pytest.raises(DataException, match="'photo' holds no image in row"):
        estimator.fit(whole.union(cut))
    left = estimator.copy({estimator.nullPolicy: "drop"})
    assert left.fit(whole.union(cut)).history == left.fit(whole).history


TOKENS = [[3, 1, 4, 1, 5], [9], [], [2, 6, 5, 3, 5, 8, 9, 7], [9, 3, 2], [3, 8, 4, 6]] * 4


@pytest.fixture(scope="module")
def tokens(spark):
    """Rows of differing lengths."""
    rows = [(i, row, i % 2) for i, row in enumerate(TOKENS)]
    return spark.createDataFrame(rows, "id INT, tokens ARRAY<INT>, label INT").coalesce(1)


def reader(keras, steps: int | None, mask: bool = True):
    """An LSTM over embedded tokens, which skips padding where it is masked."""
    keras.utils.set_random_seed(8)
    layers = keras.layers
    inputs = keras.Input((steps,), dtype="int32", name="tokens")
    hidden = layers.LSTM(6)(layers.Embedding(10, 5, mask_zero=mask)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    return model


def padded_batches(keras, padding: str, size: int) -> list[np.ndarray]:
    """Batches of rows that are each as long as the longest one of them."""
    starts = range(0, len(TOKENS), size)
    return [keras.utils.pad_sequences(TOKENS[at : at + size], padding=padding) for at in starts]


@pytest.mark.parametrize(
    ("padding", "truncating"), [("pre", "pre"), ("post", "post"), ("post", "pre")]
)
def test_rows_are_padded_as_keras_does(spark, keras, tokens, padding, truncating):
    stage = KerasModel.from_keras(
        echo(keras, (5,), "int32"),
        featuresCol="tokens",
        sequencePadding=padding,
        sequenceTruncating=truncating,
    )
    expected = keras.utils.pad_sequences(TOKENS, 5, padding=padding, truncating=truncating)
    assert outputs(stage, tokens).tolist() == expected.tolist()


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("steps", [6, None])
def test_a_model_trains_on_padded_rows_as_in_keras(spark, keras, tokens, padding, mask, steps):
    fitted = KerasEstimator(
        model=reader(keras, steps, mask), featuresCol="tokens", labelCol="label", batchSize=6,
        epochs=2, shuffle=False, sequencePadding={"tokens": padding}, sequenceTruncating="post",
    ).fit(tokens)  # fmt: skip
    model = reader(keras, steps, mask)
    y = np.arange(len(TOKENS)) % 2
    losses = []
    for _ in range(2):
        if steps is None:
            batches = padded_batches(keras, padding, 6)
        else:
            rows = keras.utils.pad_sequences(TOKENS, steps, padding=padding, truncating="post")
            batches = np.split(rows, len(TOKENS) // 6)
        labels = np.split(y, len(TOKENS) // 6)
        pairs = zip(batches, labels, strict=True)
        losses.append(np.mean([float(model.train_on_batch(x, y)) for x, y in pairs]))
        model.reset_metrics()
    for own, wanted in zip(fitted.to_keras().weights, model.weights, strict=True):
        np.testing.assert_allclose(own.numpy(), wanted.numpy(), rtol=0, atol=2e-6)
    if steps is not None or mask:
        rows = keras.utils.pad_sequences(TOKENS, steps, padding=padding, truncating="post")
        expected = fitted.to_keras().predict(rows, verbose=0)
        np.testing.assert_allclose(outputs(fitted, tokens), expected, atol=1e-6)


def test_labels_of_steps_are_padded_with_their_rows(spark, keras):
    """A tagger over an open axis: each step has a label, and padding does not count."""
    rng = np.random.default_rng(2)
    rows = [(rng.integers(1, 10, n).tolist(), rng.integers(0, 3, n).tolist()) for n in (3, 5, 1, 4)]
    data = spark.createDataFrame(rows, "tokens ARRAY<INT>, tags ARRAY<INT>").coalesce(1)

    def tagger():
        keras.utils.set_random_seed(9)
        layers = keras.layers
        inputs = keras.Input((None,), dtype="int32", name="tokens")
        hidden = layers.GRU(6, return_sequences=True)(
            layers.Embedding(10, 5, mask_zero=True)(inputs)
        )
        model = keras.Model(inputs, layers.Dense(3, "softmax", name="tags")(hidden))
        model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        return model

    fitted = KerasEstimator(
        model=tagger(), featuresCol="tokens", labelCol="tags", batchSize=2, epochs=2, shuffle=False,
        sequencePadding="post",
    ).fit(data)  # fmt: skip
    model = tagger()
    for _ in range(2):
        for at in (0, 2):
            x, y = (
                keras.utils.pad_sequences([row[i] for row in rows[at : at + 2]], padding="post")
                for i in (0, 1)
            )
            model.train_on_batch(x, y)
    for own, wanted in zip(fitted.to_keras().weights, model.weights, strict=True):
        np.testing.assert_allclose(own.numpy(), wanted.numpy(), rtol=0, atol=2e-6)


def test_missing_strings_are_empty(spark, keras):
    rows = [(0, ["a", "b"]), (1, ["b"]), (2, [])]
    data = spark.createDataFrame(rows, "id INT, words ARRAY<STRING>")
    inputs = keras.Input((2,), dtype="string", name="words")
    lookup = keras.layers.StringLookup(vocabulary=["", "a", "b"], output_mode="int")
    model = keras.Model(inputs, keras.ops.cast(lookup(inputs), "float32"))
    stage = KerasModel.from_keras(model, featuresCol="words", sequencePadding="pre")
    assert outputs(stage, data).tolist() == [[2, 3], [1, 3], [1, 1]]


def test_rows_of_differing_lengths_train_from_the_disk_as_from_memory(spark, keras):
    # Four megabytes, of which one is kept in memory.
    data = spark.range(4000).selectExpr(
        "transform(sequence(0, id % 499), i -> int((id + i) % 9 + 1)) AS tokens", "id % 2 AS label"
    )

    def fit(cache: str):
        keras.utils.set_random_seed(8)
        layers = keras.layers
        inputs = keras.Input((None,), dtype="int32", name="tokens")
        embedded = layers.Embedding(10, 5, mask_zero=True)(inputs)
        model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(embedded)))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5), loss)
        spark.conf.set("spark.flambeau.cache.memory", cache)
        estimator = KerasEstimator(
            model=model, featuresCol="tokens", epochs=3, sequencePadding="pre", validationSplit=0.2
        )
        return estimator.fit(data)

    try:
        memory, disk = fit("100m"), fit("0")
    finally:
        spark.conf.unset("spark.flambeau.cache.memory")
    assert memory.history == disk.history


def test_a_setting_of_no_meaning_is_refused(keras, tokens):
    with pytest.raises(Exception, match="sequencePadding"):
        KerasEstimator(model=reader(keras, 5), sequencePadding="left").fit(tokens)
    with pytest.raises(DataException, match="names 'token', which is no input or output"):
        KerasEstimator(
            model=reader(keras, 5), featuresCol="tokens", sequencePadding={"token": "pre"}
        ).fit(tokens)
