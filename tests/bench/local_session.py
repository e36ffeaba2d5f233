"""What benchmarks in one `local[1]` session share: the session, and how ways are timed in it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

import flambeau  # noqa: E402

# Python workers do not find this module, so what is sent to them goes along whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def session(more: Mapping[str, str] | None = None) -> SparkSession:
    """One core, driver and executor in one process; `more` are settings."""
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.flambeau.libtorch", str(ROOT / "build" / "libtorch" / "lib"))
    builder = builder.config("spark.driver.memory", "4g")
    for key, value in (more or {}).items():
        builder = builder.config(key, value)
    spark = flambeau.configure(builder).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def rates(rows: int, ways: dict[str, Callable[[], object]], turns: int = 3) -> dict[str, float]:
    """Rows per second of each way, after a warm-up, in turn; the best of so many turns."""
    seconds = {name: float("inf") for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {name: rows / best for name, best in seconds.items()}


def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a mapInArrow user does at least: look at each batch."""
    rows = sum(batch.num_rows for batch in batches)
    yield pa.RecordBatch.from_pydict({"rows": [rows]})
