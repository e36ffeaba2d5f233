"""Train on the files of TensorFlowOnSpark's MNIST examples, in both of its input modes.

Usage: train.py FILES MODELS. FILES is what write.py wrote; MODELS gets a model directory for each
way to train.
"""

import sys

import flambeau
import keras
from flambeau.ml import KerasEstimator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import expr

files, models = sys.argv[1:]
spark = flambeau.configure(SparkSession.builder.appName("tfos")).getOrCreate()
PIXELS = [f"p{i}" for i in range(784)]


def v2_csv(split: str) -> DataFrame:
    """Read lines `label,p0,..,p783`."""
    schema = "label INT, " + ", ".join(f"{pixel} INT" for pixel in PIXELS)
    return spark.read.csv(f"{files}/v2/csv/{split}", schema)


def tfr(version: str, split: str) -> DataFrame:
    """Read examples with `label` and `image`."""
    return spark.read.format("tfrecord").load(f"{files}/{version}/tfr/{split}")


def v1_csv(split: str) -> DataFrame:
    """Read lines of pixels and lines of one-hot labels that belong together."""
    folder = f"{files}/v1/csv/{split}"
    images, labels = (
        spark.sparkContext.textFile(f"{folder}/{name}") for name in ("images", "labels")
    )
    lines = images.zip(labels).toDF("image STRING, label STRING")
    return lines.selectExpr(
        "cast(split(image, ',') AS array<int>) AS image",
        "cast(split(label, ',') AS array<int>) AS label",
    )


def v2_model() -> keras.Model:
    """Return the model of the 2.x examples."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Reshape((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def v1_model() -> keras.Model:
    """Return the model of the 1.4 examples."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


V2 = {
    "loss": "sparse_categorical_crossentropy",
    "optimizer": keras.optimizers.Adam(0.001),
    "batchSize": 64,
    "epochs": 3,
}
# Trained for a number of steps, as there, whatever the epoch.
V1 = {
    "loss": "categorical_crossentropy",
    "optimizer": keras.optimizers.Adagrad(0.01),
    "batchSize": 100,
    "stepsPerEpoch": 100,
    "repeat": True,
    "maxSteps": 300,
}

FORMS = {
    "v2 csv": (v2_csv, v2_model, V2 | {"featureCols": PIXELS}),
    "v2 tfr": (lambda split: tfr("v2", split), v2_model, V2 | {"featuresCol": "image"}),
    "v1 csv": (v1_csv, v1_model, V1 | {"featuresCol": "image"}),
    "v1 tfr": (lambda split: tfr("v1", split), v1_model, V1 | {"featuresCol": "image"}),
}

for form, (read, model, settings) in FORMS.items():
    train, test = read("train"), read("test")
    for mode in ("spark", "direct"):
        estimator = KerasEstimator(
            model=model(),
            inputMode=mode,
            numWorkers=2,
            seed=1,
            metrics=["accuracy"],
            modelDir=f"{models}/{form.replace(' ', '-')}-{mode}",
            verbose=0,
            **settings,
        )
        fitted = estimator.fit(train)
        label = "label"
        if "v1" in form:
            # The place of the 1.
            label = "array_position(label, 1) - 1"
        predicted = fitted.transform(test).select(expr(f"avg(int(prediction = {label}))"))
        print(f"{form} inputMode={mode}: accuracy {predicted.head()[0]:.4f}", flush=True)
spark.stop()
