"""Training rates in one `local[1]` session: rows in memory, rows that Spark feeds, files read anew.

`in_training.py FOLDER` takes a folder of TFRecord files of 784 bytes an image, as peer_tfdata.py
wrote them, and prints a line before each fit; the JVM prints how long each epoch takes. Epochs are
of so many rows that a tenth of a second of their time is little.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent), str(ROOT / "python")]

from flambeau.ml import KerasEstimator  # noqa: E402
from local_session import session  # noqa: E402

MODEL = ROOT / "examples" / "mnist" / "cnn.json"


def main() -> None:
    """Train in each way."""
    # One partition, which the one worker takes as it is.
    spark = session(
        {"spark.sql.files.maxPartitionBytes": "2g", "spark.flambeau.cache.memory": "2g"}
    )
    records = spark.read.format("tfrecord").option("binaryFeatures", "image")
    table = records.load(f"{sys.argv[1]}/bytes")
    print(f"rows {table.count()}", flush=True)
    table.cache().count()
    for way, frame, mode, epochs in [
        ("warm", table.where("hash(image) % 8 = 0"), "spark", 1),
        ("fed", table, "spark", 3),
        ("read", table, "direct", 2),
    ]:
        if mode == "direct":
            table.unpersist(blocking=True)
        print(f"way {way}", flush=True)
        KerasEstimator(
            model=MODEL,
            optimizer="adam",
            loss="sparse_categorical_crossentropy",
            featuresCol="image",
            batchSize=64,
            epochs=epochs,
            inputMode=mode,
        ).fit(frame)
    spark.stop()


main()
