"""Fits and predictions on GPUs as Spark hands them out: stand-ins, one for each executor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cluster import session
from deadline import within
from executors import executors
from flambeau.errors import ConfigException
from points import estimator, points, weights
from pyspark.sql import SparkSession
from stand_in import stand_in

DEADLINE_SECONDS = 120


@pytest.fixture(scope="module")
def spark(tmp_path_factory) -> Iterator[SparkSession]:
    """Two executors, each with a GPU that Spark gives its tasks."""
    script = tmp_path_factory.mktemp("gpus") / "discover.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0"]}\'\n')
    script.chmod(0o755)
    settings = {
        "spark.flambeau.libtorch": str(stand_in()),
        "spark.worker.resource.gpu.amount": "1",
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.executor.resource.gpu.amount": "1",
        "spark.task.resource.gpu.amount": "1",
    }
    with session("local-cluster[2,1,1024]", settings) as spark:
        yield spark


def test_tasks_compute_on_the_gpus_that_spark_gives_them(spark, tmp_path):
    data = points(spark, [100, 120])

    def fit(device: str):
        def run():
            return estimator(device=device, optimizer="sgd").fit(data)

        return within(DEADLINE_SECONDS, f"a fit on {device}", run)

    on_gpu, on_cpu = fit("auto"), fit("cpu")
    logs = [executor.log.read_text() for executor in executors(spark)]
    assert len(logs) == 2
    assert all("computes on Cuda(0)" in log for log in logs)
    np.testing.assert_allclose(on_gpu.history["loss"], on_cpu.history["loss"], rtol=1e-5)
    found, expected = weights(on_gpu, tmp_path / "gpu"), weights(on_cpu, tmp_path / "cpu")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        ours, theirs = (np.frombuffer(each, np.float32) for each in (found[name], values))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7, err_msg=name)

    def output(device: str) -> np.ndarray:
        rows = on_gpu.copy({on_gpu.device: device}).transform(data).collect()
        return np.array([row.output for row in rows])

    np.testing.assert_allclose(output("cuda"), output("cpu"), rtol=1e-5)


def test_a_gpu_that_is_not_there_is_named(spark):
    data = points(spark, [20, 20])
    with pytest.raises(ConfigException, match="GPU 3 is not there: libtorch finds 1"):
        within(DEADLINE_SECONDS, "a fit on no GPU", lambda: estimator(device="cuda:3").fit(data))


def test_a_device_of_another_name_is_refused_where_it_is_set():
    with pytest.raises(Exception, match="device"):
        estimator(device="gpu").fit(None)
