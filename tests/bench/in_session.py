"""Feed-only and prediction rates in one `local[1]` session, beside mapInArrow and mapInPandas.

`in_session.py TABLE MODEL_DIR` prints rows per second as JSON. Every figure is the best of three
turns, the peers in turn with ours.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

from flambeau.ml import KerasModel  # noqa: E402
from local_session import count, rates, session  # noqa: E402

FEED_ROWS = 200_000
PIXELS = 784


def predict_with_torch(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Predicts as a mapInPandas user does."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 13 * 13, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 10),
    )
    with torch.no_grad():
        for part in parts:
            pixels = np.frombuffer(b"".join(part["image"]), np.uint8).reshape(-1, 1, 28, 28)
            output = model(torch.from_numpy(pixels.copy()).float() / 255)
            yield pd.DataFrame({"prediction": output.argmax(1).double().numpy()})


def drop(frame: DataFrame) -> None:
    """Computes every row and keeps none."""
    frame.write.format("noop").mode("overwrite").save()


def main() -> None:
    """Measures and prints."""
    table, model_dir = sys.argv[1:]
    spark = session()
    image = f"unhex(repeat('a5', {PIXELS})) AS image"
    feed = spark.range(0, FEED_ROWS, 1, 1).selectExpr(image).cache()
    feed.count()
    job = spark._jvm.io.flambeau.train.FeedJob
    columns = spark.sparkContext._gateway.new_array(spark._jvm.String, 1)
    columns[0] = "image"
    feeding = rates(
        FEED_ROWS,
        {
            "feed": lambda: job.run(feed._jdf, columns),
            "mapInArrow": lambda: feed.mapInArrow(count, "rows long").collect(),
        },
    )
    feeding["feed MB"] = feeding["feed"] * PIXELS / 1e6
    feed.unpersist()

    images = spark.read.parquet(table).cache()
    rows = images.count()
    keras = Path(model_dir) / "export" / "model.keras"
    scala = spark._jvm.io.flambeau.ml.KerasModel.fromKerasFile(spark._jsparkSession, str(keras))
    model = KerasModel(scala).setParams(featuresCol="image", outputCol="")
    predicting = rates(
        rows,
        {
            "flambeau predict": lambda: drop(model.transform(images)),
            "mapInPandas": lambda: drop(
                images.mapInPandas(predict_with_torch, "prediction double")
            ),
        },
    )
    print(json.dumps({**feeding, **predicting}))


main()
