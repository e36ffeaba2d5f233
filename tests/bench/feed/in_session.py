"""Feeding and reading in one `local[1]` session, ours and Spark's own ways in turn.

`in_session.py FOLDER` takes the files that peer_tfdata.py wrote, writes a table of CSV beside them
if there is none, and prints rows per second as JSON: after one turn to warm up the best of three,
of twelve for the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from local_session import count, rates, session  # noqa: E402

PIXELS = 784
# Cached frames of about 200 MB each.
FRAMES = {
    "binary": (200_000, [f"unhex(repeat('a5', {PIXELS})) AS image"]),
    "floats": (60_000, [f"array_repeat(CAST(id AS FLOAT), {PIXELS}) AS image"]),
    "columns": (60_000, [f"CAST(id % 256 AS INT) AS p{at}" for at in range(PIXELS)]),
}

# 170 MB of text: of fewer rows, half the time would be Spark's planning of 785 columns.
CSV_ROWS = 60_000


def batches(frame: DataFrame) -> int:
    """Reads the frame's columnar batches, and no row of them; how many there were."""
    plan = frame._jdf.queryExecution().executedPlan()
    while not plan.supportsColumnar():
        plan = plan.children().head()
    return plan.executeColumnar().count()


def feed(spark: SparkSession, frame: DataFrame) -> None:
    """Feeds all columns to a session that decodes and drops them."""
    names = spark.sparkContext._gateway.new_array(spark._jvm.String, len(frame.columns))
    for at, name in enumerate(frame.columns):
        names[at] = name
    spark._jvm.io.flambeau.train.FeedJob.run(frame._jdf, names)


def feeding(spark: SparkSession, kind: str) -> dict[str, float]:
    """Feeding a session beside mapInArrow, and beside the JVM only iterating the cached rows."""
    rows, columns = FRAMES[kind]
    frame = spark.range(0, rows, 1, 1).selectExpr(*columns).cache()
    frame.count()
    measured = rates(
        rows,
        {
            f"feed {kind}": lambda: feed(spark, frame),
            f"mapInArrow {kind}": lambda: frame.mapInArrow(count, "rows long").collect(),
            f"iterate {kind}": lambda: frame._jdf.queryExecution().toRdd().count(),
        },
    )
    frame.unpersist()
    return measured


def feeding_csv(spark: SparkSession, path: str) -> dict[str, float]:
    """Feeding a label and 784 pixels from text, beside Spark's reader by itself."""
    columns = [f"CAST((id * 37 + {at} * 101) % 256 AS INT) AS p{at}" for at in range(PIXELS)]
    table = spark.range(0, CSV_ROWS, 1, 1).selectExpr("CAST(id % 10 AS INT) AS label", *columns)
    if not Path(path).exists():
        table.write.csv(path)
    frame = spark.read.schema(table.schema).csv(path)
    return rates(
        CSV_ROWS,
        {
            "feed csv": lambda: feed(spark, frame),
            "read csv": lambda: frame.write.format("noop").mode("overwrite").save(),
        },
    )


def reading(spark: SparkSession, folder: str, kind: str) -> dict[str, float]:
    """The data source, with the columns that tf.data parses."""
    path = f"{folder}/{kind}"
    schema = spark.read.format("tfrecord").option("binaryFeatures", "image").load(path).schema
    frame = spark.read.format("tfrecord").schema(schema).load(path)
    # A turn is a fifth of a second: the first few go by while the JVM compiles.
    return rates(frame.count(), {f"read {kind}": lambda: batches(frame)}, turns=12)


def main() -> None:
    """Measure and print."""
    spark = session({"spark.sql.codegen.maxFields": "2000"})
    measured: dict[str, float] = {}
    for kind in FRAMES:
        measured.update(feeding(spark, kind))
    measured.update(feeding_csv(spark, f"{sys.argv[1]}/csv-{CSV_ROWS}"))
    for kind in ("ints", "floats", "bytes"):
        measured.update(reading(spark, sys.argv[1], kind))
    print(json.dumps(measured))


main()
