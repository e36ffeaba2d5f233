"""What a user of PySpark reads when something is wrong; the session must stay usable."""

from __future__ import annotations

import re
import time

import pytest
from cluster import session
from deadline import within
from executors import executors
from points import classifier, estimator, points
from py4j.protocol import Py4JJavaError

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


def failure(fit) -> str:
    """The class and message of the exception that reached the driver."""
    with pytest.raises(Py4JJavaError) as caught:
        within(DEADLINE_SECONDS, "the failing fit", fit)
    exception = caught.value.java_exception
    assert exception.getMessage() in str(caught.value)
    return f"{exception.getClass().getSimpleName()}: {exception.getMessage()}"


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


def test_an_unknown_layer_names_layer_class_and_what_is_supported(data):
    message = failure(lambda: estimator(model=classifier("Warp")).fit(data))
    assert "ConfigException" in message
    assert 'layer "sides" (Warp): this class is not supported; supported: ' in message
    for layer in ("Conv2D", "Dense", "BatchNormalization"):
        assert layer in message


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
