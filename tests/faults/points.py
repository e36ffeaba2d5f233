"""A small problem, points in the plane and which side they are on, and how to train on it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
from flambeau.ml import KerasEstimator, KerasModel
from pyspark.sql import DataFrame, SparkSession


def points(spark: SparkSession, partitions: Sequence[int]) -> DataFrame:
    """Columns point (two floats in -1..1) and label (0 or 1); `partitions` are their row counts."""
    sizes = f"array({', '.join(map(str, partitions))})"
    return (
        spark.range(0, len(partitions), 1, len(partitions))
        .selectExpr("id", f"posexplode(array_repeat(0, {sizes}[id])) AS (row, zero)")
        .selectExpr("id * 1000003 + row AS n")
        .selectExpr("float(n * 37 % 101 / 50.5 - 1) AS x", "float(n * 53 % 103 / 51.5 - 1) AS y")
        .selectExpr("array(x, y) AS point", "int(x + y > 0) AS label")
    )


def classifier(output: str = "Dense") -> str:
    """Keras JSON of a network of two layers; `output` is the class of the last."""
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 2], "name": "point"}},
        {
            "class_name": "Dense",
            "config": {"name": "hidden", "units": 16, "activation": "relu"},
        },
        {
            "class_name": output,
            "config": {"name": "sides", "units": 2, "activation": "softmax"},
        },
    ]
    return json.dumps({"class_name": "Sequential", "config": {"name": "points", "layers": layers}})


def estimator(**settings: Any) -> KerasEstimator:
    """An estimator for `points`: two workers, two epochs, silent."""
    defaults: dict[str, Any] = {
        "model": classifier(),
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "featuresCol": "point",
        "labelCol": "label",
        "batchSize": 16,
        "epochs": 2,
        "numWorkers": 2,
        "seed": 7,
        "verbose": 0,
    }
    return KerasEstimator(**{**defaults, **settings})


def weights(model: KerasModel, folder: Path) -> dict[str, bytes]:
    """The bits of every variable; `folder` is where the model may be saved."""
    model.write().overwrite().save(str(folder))
    with zipfile.ZipFile(folder / "model.keras") as archive:
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    found: dict[str, bytes] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()].tobytes()

    file.visititems(visit)
    assert found, "the model has no weights"
    return found
