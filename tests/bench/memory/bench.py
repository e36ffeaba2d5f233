"""What an executor takes for rows: training on ten times more of them than its budget.

Usage: bench.py, with BUDGET_MIB (192) in the environment. One executor, a process of its own whose
heap is all taken at its start, so that what it grows by is native memory. A fit on a few rows says
what JVM, libtorch and model take; one on ten times the budget, in both input modes, what the rows
take.
Prints figure, ours, limit, ratio, aim, and writes them to build/bench/memory.json.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import keras
from pyspark.sql import DataFrame, SparkSession

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "python"))

import flambeau  # noqa: E402
from flambeau.ml import KerasEstimator  # noqa: E402

BUDGET = int(os.environ.get("BUDGET_MIB", "192")) << 20
ROW = 3072
EPOCHS = 5
MIB = 1 << 20


def executor() -> int:
    """The process of the executor."""
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"CoarseGrainedExecutorBackend" in command and b"--executor-id" in command:
            return int(entry.name)
    sys.exit("there is no executor")


def resident(process: int) -> int:
    """Bytes that the process has in memory and that no file backs."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


class Watch:
    """Looks at the executor's memory ten times a second."""

    def __init__(self) -> None:
        """Start."""
        self.process = executor()
        self.seen: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self) -> None:
        """Take down what is resident until it is over."""
        while not self.over.wait(0.1):
            self.seen.append(resident(self.process))

    def end(self) -> list[int]:
        """Stop, and give what was seen."""
        self.over.set()
        self.thread.join()
        return self.seen


def images(spark: SparkSession, rows: int, parts: int = 1) -> DataFrame:
    """So many rows of bytes, with which Spark itself has nothing to do but to make them."""
    image = f"unhex(repeat(hex(id % 256 + 256), {ROW * 2 // 3})) AS image"
    return spark.range(0, rows, 1, parts).selectExpr(image, "id % 10 AS label")


def fit(frame: DataFrame, mode: str) -> list[int]:
    """Train; what was resident while it did."""
    model = keras.Sequential(
        [keras.Input((ROW,)), keras.layers.Rescaling(1 / 255), keras.layers.Dense(10)]
    )
    estimator = KerasEstimator(
        model=model,
        optimizer=keras.optimizers.SGD(1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        featuresCol="image",
        batchSize=64,
        epochs=EPOCHS,
        inputMode=mode,
        verbose=0,
    )
    watch = Watch()
    try:
        estimator.fit(frame)
    finally:
        seen = watch.end()
    return seen


def session() -> SparkSession:
    """One executor, which nothing has run in yet."""
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.flambeau.libtorch": str(ROOT / "build" / "libtorch" / "lib"),
        "spark.executor.memory": "1g",
        "spark.executor.extraJavaOptions": "-Xms1g -XX:+AlwaysPreTouch",
        "spark.flambeau.cache.memory": str(BUDGET),
        "spark.default.parallelism": "1",
    }
    builder = SparkSession.builder.master("local-cluster[1,1,1024]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = flambeau.configure(builder).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def measured(mode: str, rows: int, folder: str) -> list[tuple[str, float, float, float]]:
    """Figure, ours, limit and aim of one input mode, in an executor of its own."""
    spark = session()
    if not Path(folder, "_SUCCESS").exists():
        images(spark, rows, 4).write.mode("overwrite").format("tfrecord").save(folder)
    records = spark.read.format("tfrecord").schema("image BINARY, label LONG")
    table = records.load(folder) if mode == "direct" else images(spark, rows)
    # Once before it counts, so that all code is loaded.
    base = [max(fit(images(spark, 500), mode)) for _ in range(2)][1]
    seen = fit(table, mode)
    time.sleep(2)
    left = resident(executor())
    spark.stop()
    # The first epoch fills the budget; after it nothing may grow.
    later = seen[len(seen) * 2 // EPOCHS :]
    grown = max(later[len(later) // 2 :]) / max(later[: len(later) // 2])
    print(f"({mode}: {base / MIB:.0f} MiB without rows, {left / MIB:.0f} MiB after the fit)")
    return [
        (f"inputMode={mode}, MiB that the rows take", (max(seen) - base) / MIB, BUDGET / MIB, 1.1),
        (f"inputMode={mode}, last epochs beside earlier ones", grown, 1.0, 1.02),
    ]


def main() -> None:
    """Measure, print, write."""
    rows = 10 * BUDGET // ROW
    folder = str(ROOT / "build" / "bench" / f"memory-{rows}")
    print(
        f"{rows:,} rows of {ROW} bytes, {rows * ROW / MIB:.0f} MiB; budget {BUDGET / MIB:.0f} MiB"
    )
    figures = [line for mode in ("spark", "direct") for line in measured(mode, rows, folder)]
    print("| figure | ours | limit | ratio | aim |\n|---|---|---|---|---|")
    results = []
    for figure, ours, limit, aim in figures:
        print(f"| {figure} | {ours:.2f} | {limit:.2f} | {ours / limit:.2f} | at most {aim} |")
        line = {"figure": figure, "ours": ours, "peer": "limit", "theirs": limit}
        results.append({**line, "ratio": ours / limit, "aim": aim})
    (ROOT / "build" / "bench" / "memory.json").write_text(json.dumps(results, indent=1))


main()
