"""Spark sessions with the jar, and a small data set: noisy 8x8 images of ten patterns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import flambeau
import numpy as np
from pyspark.sql import DataFrame, SparkSession

LIBTORCH = Path(__file__).resolve().parents[2] / "build/libtorch/lib"
ROWS = 600


@contextmanager
def session(master: str, more: Mapping[str, str] | None = None) -> Iterator[SparkSession]:
    """A Spark session on `master` that can run Flambeau; stopped at the end.

    `more` are settings that win over those here.
    """
    os.environ.update(
        SPARK_SCALA_VERSION="2.13", SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable
    )
    settings = {
        "spark.flambeau.libtorch": str(LIBTORCH),
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.executor.heartbeatInterval": "250ms",
        # A first job looks for its executors this often; Spark's default is 15 s.
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
        # The JVM passes what its first session had on to the next ones, unless they say otherwise.
        "spark.dynamicAllocation.enabled": "false",
        **(more or {}),
    }
    builder = SparkSession.builder.master(master).appName("flambeau tests")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = flambeau.configure(builder).getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


def digits(spark: SparkSession) -> DataFrame:
    """Columns id, label (0..9) and image (64 floats in 0..1), in a fixed order."""
    rng = np.random.default_rng(7)
    patterns = rng.random((10, 64))
    labels = rng.integers(0, 10, ROWS)
    images = np.clip(patterns[labels] + rng.normal(0, 0.1, (ROWS, 64)), 0, 1)
    rows = [(i, int(labels[i]), images[i].tolist()) for i in range(ROWS)]
    return spark.createDataFrame(rows, "id INT, label INT, image ARRAY<FLOAT>").repartition(3)
