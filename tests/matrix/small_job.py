"""A small job with the PySpark, the flambeau and the NumPy that this Python finds.

libtorch is in the executors' Python, as the README has it, and nowhere on the driver.
Usage: small_job.py EXECUTOR_PYTHON FOLDER. Prints as JSON what came of it.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import flambeau
import pyspark
from flambeau.errors import ConfigException
from flambeau.ml import KerasEstimator, KerasModel
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession


def network(output: str) -> str:
    """Keras JSON of a network of two layers; `output` is the class of the last."""
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 2], "name": "point"}},
        {"class_name": "Dense", "config": {"name": "hidden", "units": 16, "activation": "relu"}},
        {"class_name": output, "config": {"name": "sides", "units": 2, "activation": "softmax"}},
    ]
    return json.dumps({"class_name": "Sequential", "config": {"name": "points", "layers": layers}})


def points(spark: SparkSession) -> DataFrame:
    """600 points in the plane, and on which side of a line each lies."""
    return (
        spark.range(0, 600, 1, 3)
        .selectExpr("float(id * 37 % 101 / 50.5 - 1) AS x", "float(id * 53 % 103 / 51.5 - 1) AS y")
        .selectExpr("x", "y", "int(x + y > 0) AS label")
    )


def right(model: KerasModel, data: DataFrame) -> int:
    """The rows whose prediction is their label."""
    return model.transform(data).where("prediction = label").count()


def refused_fit(estimator: KerasEstimator, data: DataFrame) -> str:
    """What a fit with an unknown layer says."""
    try:
        estimator.copy({estimator.model: network("Warp")}).fit(data)
    except ConfigException as error:
        return str(error)
    return ""


def refused_transform(saved: Path, data: DataFrame) -> str:
    """What Spark says of the model in `saved` once a layer of it is unknown."""
    archive = saved / "model.keras"
    with zipfile.ZipFile(archive) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    entries["config.json"] = entries["config.json"].replace(b'"Dense"', b'"Warp"')
    with zipfile.ZipFile(archive, "w") as spoilt:
        for name, content in entries.items():
            spoilt.writestr(name, content)
    (saved / ".model.keras.crc").unlink()
    model = KerasModel.load(str(saved))
    try:
        right(model, data)
    except Py4JJavaError as error:
        return str(error.java_exception.getMessage())
    return ""


def from_files(estimator: KerasEstimator, data: DataFrame, folder: str) -> list[float]:
    """The losses of training on TFRecords that the workers read."""
    data.write.format("tfrecord").save(f"{folder}/records")
    records = data.sparkSession.read.format("tfrecord").load(f"{folder}/records")
    settings = {estimator.inputMode: "direct", estimator.validationSplit: 0.2}
    return estimator.copy(settings).fit(records).history["val_loss"]


def from_csv(
    estimator: KerasEstimator, model: KerasModel, data: DataFrame, folder: str
) -> dict[str, object]:
    """Training on CSV and predicting it; some lines are plain, some for Spark's own parser."""
    data.write.csv(f"{folder}/lines")
    data.write.option("quoteAll", True).mode("append").csv(f"{folder}/lines")
    lines = data.sparkSession.read.schema(data.schema).csv(f"{folder}/lines")
    predicted = model.transform(lines)
    return {
        "losses": estimator.copy({estimator.inputMode: "direct"}).fit(lines).history["loss"],
        "right": predicted.where("prediction = label").count(),
        "plan": predicted._jdf.queryExecution().executedPlan().toString(),
    }


def on_a_stream(estimator: KerasEstimator, data: DataFrame, folder: str) -> int:
    """The rows of a stream that a model trained on the same stream predicts as they are."""
    data.write.parquet(f"{folder}/arrived")
    arriving = data.sparkSession.readStream.schema(data.schema).option("maxFilesPerTrigger", 1)
    stream = arriving.parquet(f"{folder}/arrived")
    training = stream.writeStream.foreachBatch(estimator.fitBatch)
    training = training.option("checkpointLocation", f"{folder}/training")
    training.trigger(availableNow=True).start().awaitTermination()
    export = f"{estimator.getOrDefault(estimator.modelDir)}/export/model.keras"
    model = KerasModel.from_file(data.sparkSession, export, featureCols=["x", "y"])
    predicting = model.transform(stream).where("prediction = label").writeStream
    predicting = predicting.option("checkpointLocation", f"{folder}/predicting")
    predicting.trigger(availableNow=True).start(f"{folder}/predicted").awaitTermination()
    return data.sparkSession.read.parquet(f"{folder}/predicted").count()


def main() -> None:
    """Fits, transforms, saves, loads and is refused."""
    python, folder = sys.argv[1:]
    builder = (
        SparkSession.builder.master("local-cluster[2,1,1024]")
        .config("spark.executorEnv.PYSPARK_PYTHON", python)
        .config("spark.ui.enabled", "false")
        .config("spark.executor.heartbeatInterval", "1s")
        .config("spark.scheduler.barrier.maxConcurrentTasksCheck.interval", "1s")
    )
    spark = flambeau.configure(builder).getOrCreate()
    data = points(spark)
    estimator = KerasEstimator(
        model=network("Dense"),
        optimizer={"class_name": "Adam", "config": {"learning_rate": 0.05}},
        loss="sparse_categorical_crossentropy",
        featureCols=["x", "y"],
        epochs=5,
        numWorkers=2,
        validationSplit=0.1,
        modelDir=f"{folder}/run",
        verbose=0,
    )
    model = estimator.fit(data)
    model.save(f"{folder}/model")
    result = {
        "spark": [pyspark.__version__, spark.version],
        "history": model.history,
        "right": right(model, data),
        "loaded": right(KerasModel.load(f"{folder}/model"), data),
        "from files": from_files(estimator, data, folder),
        "from csv": from_csv(
            estimator.copy({estimator.modelDir: f"{folder}/lined"}), model, data, folder
        ),
        "on a stream": on_a_stream(
            estimator.copy({estimator.modelDir: f"{folder}/streamed"}), data, folder
        ),
        "refused fit": refused_fit(estimator, data),
        "refused transform": refused_transform(Path(folder, "model"), data),
    }
    spark.stop()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
