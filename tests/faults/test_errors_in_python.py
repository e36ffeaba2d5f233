"""What a user of PySpark reads when something is wrong; the session must stay usable."""

from __future__ import annotations

import re
import time
import traceback
import zipfile

import pytest
from cluster import session
from deadline import within
from executors import executors
from flambeau.errors import FlambeauException
from flambeau.ml import KerasModel
from points import classifier, estimator, points

DEADLINE_SECONDS = 30
REFUSED_SECONDS = 2


@pytest.fixture(scope="module")
def spark():
    """Two executors of one core."""
    with session("local-cluster[2,1,1024]") as spark:
        yield spark


@pytest.fixture(scope="module")
def data(spark):
    """Rows for two ranks."""
    return points(spark, [100, 100])


@pytest.fixture(scope="module")
def crew(spark, data):
    """The executors that have proved that they can train."""
    within(60, "the first fit", lambda: estimator().fit(data))
    return executors(spark)


@pytest.fixture(autouse=True)
def usable_afterwards(spark, data, crew):
    """After each test the same executors train as if nothing had happened."""
    yield
    model = within(DEADLINE_SECONDS, "the fit after the failed one", lambda: estimator().fit(data))
    assert len(model.history["loss"]) == 2
    assert executors(spark) == crew


def failure(call) -> str:
    """The class and message of the exception that the user sees, with nothing of the JVM's."""
    with pytest.raises(FlambeauException) as caught:
        within(DEADLINE_SECONDS, "the failing call", call)
    error = caught.value
    assert "".join(traceback.format_exception(error)).count("Exception") == 1
    assert error.java_exception.getClass().getName() == f"io.flambeau.{type(error).__name__}"
    return f"{type(error).__name__}: {error}"


def refusal(spark, call) -> str:
    """As `failure`, of what is refused on the driver: in one line, and before any job."""
    scheduler = spark._jsc.sc().dagScheduler()
    before = scheduler.numTotalJobs()
    message = failure(call)
    assert "\n" not in message
    assert scheduler.numTotalJobs() == before
    return message


def test_a_wrong_column_is_named_with_those_there_are(data):
    message = failure(lambda: estimator(featuresCol="pint").fit(data))
    assert message == (
        "DataException: feature column 'pint' is no column of the DataFrame;"
        " it has 'point', 'label'"
    )


def test_a_string_column_is_named_with_the_types_that_fit(data):
    text = data.selectExpr("point", "string(label) AS label")
    message = failure(lambda: estimator().fit(text))
    assert message.startswith(
        "DataException: label column 'label' has type STRING; it must be boolean"
    )
    assert message.endswith("Try: cast or encode it first")


def test_a_label_out_of_range_names_column_row_range_and_rank(data):
    wrong = data.selectExpr("point", "if(spark_partition_id() = 1, label + 5, label) AS label")
    message = failure(lambda: estimator().fit(wrong))
    assert re.search(
        r"DataException: rank 1: label [56] of column 'label' in row 0 of the partition"
        r" is out of range \[0, 2\)",
        message,
    ), message


def test_a_null_in_a_feature_names_column_row_rank_and_the_way_out(data):
    holed = data.selectExpr("if(spark_partition_id() = 0, null, point) AS point", "label")
    message = failure(lambda: estimator().fit(holed))
    assert re.search(r"DataException: rank 0: column 'point' is null in row 0 of", message), message
    assert "nullPolicy" in message


@pytest.mark.parametrize("nowhere", ["point[0] > 1", "false"])
def test_an_empty_data_frame_is_an_error_also_when_spark_knows_before(data, nowhere):
    message = failure(lambda: estimator().fit(data.where(nowhere)))
    assert message.startswith("DataException: ")
    assert "the training data has no rows" in message


@pytest.mark.parametrize(
    ("feature", "rate"), [("point", 1e30), ("array(point[0], float('nan'))", 0.01)]
)
def test_a_loss_that_is_no_number_names_epoch_and_step(data, feature, rate):
    sgd = {"class_name": "SGD", "config": {"learning_rate": rate}}
    frame = data.selectExpr(f"{feature} AS point", "label")
    message = failure(lambda: estimator(optimizer=sgd).fit(frame))
    assert re.search(
        r"NumericException: rank \d: the loss is (NaN|-?inf) in epoch \d at step \d+", message
    ), message
    assert "lower the learning rate" in message


def test_an_unknown_layer_names_layer_class_and_what_is_supported(spark, data):
    message = refusal(spark, lambda: estimator(model=classifier("Warp")).fit(data))
    assert message.startswith("ConfigException: ")
    assert 'layer "sides" (Warp): this class is not supported; supported: ' in message
    for layer in ("Conv2D", "Dense", "BatchNormalization"):
        assert layer in message


def test_settings_that_do_not_fit_the_model_are_refused_before_any_job(spark, data):
    for settings, said in [
        ({"optimizer": "adamm"}, "adamm"),
        ({"loss": "categorical_crossentropy"}, "label column 'label' holds 1 values a row"),
        ({"featuresCol": "label"}, "the feature columns [label] hold 1 values a row"),
        ({"model": "{}"}, "class_name"),
    ]:
        assert said in refusal(spark, lambda given=settings: estimator(**given).fit(data))


def test_a_model_that_cannot_predict_is_refused_by_transform_before_any_job(spark, data, tmp_path):
    saved = tmp_path / "model"
    within(DEADLINE_SECONDS, "the fit to spoil", lambda: estimator().fit(data)).save(str(saved))
    archive = saved / "model.keras"
    with zipfile.ZipFile(archive) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    entries["config.json"] = entries["config.json"].replace(b'"Dense"', b'"Warp"')
    with zipfile.ZipFile(archive, "w") as spoilt:
        for name, content in entries.items():
            spoilt.writestr(name, content)
    (saved / ".model.keras.crc").unlink(missing_ok=True)
    model = KerasModel.load(str(saved))
    message = refusal(spark, lambda: model.transform(data))
    assert message.startswith("ConfigException: ")
    assert "(Warp): this class is not supported" in message


def test_a_model_file_that_is_not_there_is_named(spark, data, tmp_path):
    message = refusal(spark, lambda: estimator(model=tmp_path / "no.keras").fit(data))
    assert message.startswith(f"ConfigException: the model file://{tmp_path}/no.keras cannot be")


def test_a_model_directory_that_cannot_be_written_is_named(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder = str(tmp_path / "file" / "model")
    message = failure(lambda: estimator(modelDir=folder).fit(data))
    assert message.startswith(f"ConfigException: modelDir {folder} cannot be written: ")
    assert "Try: " in message


def test_too_few_slots_are_refused_at_once_with_the_numbers(data):
    stage = estimator(numWorkers=5)
    begin = time.monotonic()
    message = failure(lambda: stage.fit(data))
    assert time.monotonic() - begin < REFUSED_SECONDS
    assert message.startswith(
        "ConfigException: numWorkers=5 needs 5 task slots at once, but there are 2"
        " (2 executors x 1 cores, spark.task.cpus=1)"
    )
