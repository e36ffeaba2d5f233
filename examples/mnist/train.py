"""The MNIST CNN from PySpark: train on the CSV that `flambeau prepare` wrote, then score.

Usage: train.py DATA_DIR MODEL_DIR, with MASTER naming the Spark master (default: local[2]).
"""

import os
import sys
from pathlib import Path

import flambeau
from flambeau.ml import KerasEstimator
from pyspark.sql import SparkSession

data, model_dir = sys.argv[1:]
builder = SparkSession.builder.appName("mnist").master(os.environ.get("MASTER", "local[2]"))
spark = flambeau.configure(builder).getOrCreate()

pixels = [f"p{i}" for i in range(784)]
schema = "label INT, " + ", ".join(f"{pixel} INT" for pixel in pixels)
train = spark.read.csv(f"{data}/csv/train", schema, header=True)
test = spark.read.csv(f"{data}/csv/test", schema, header=True)

estimator = KerasEstimator(
    model=Path(__file__).with_name("cnn.json"),
    optimizer="adam",
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    featureCols=pixels,
    labelCol="label",
    batchSize=64,
    epochs=3,
    numWorkers=2,
    seed=1,
    modelDir=model_dir,
)
model = estimator.fit(train)
print(model.history)
model.transform(test).selectExpr("avg(int(prediction = label)) AS accuracy").show()
