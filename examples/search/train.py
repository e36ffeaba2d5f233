"""Search for the learning rate and the width of a network on MNIST, several fits at once.

Usage: train.py DATA MODEL ROWS PARALLELISM. DATA has MNIST's four IDX files, of which ROWS rows
train; MODEL gets the best model. As many fits run at once as PARALLELISM says.
"""

import sys

import flambeau
import keras
from flambeau.ml import KerasEstimator
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import SparkSession

data, model_path, rows, parallelism = sys.argv[1:]
spark = flambeau.configure(SparkSession.builder.appName("search")).getOrCreate()


def images(split):
    """The rows of a split: label, and image as bytes."""
    labels = f"{data}/{split}-labels-idx1-ubyte.gz"
    return (
        spark.read.format("idx")
        .option("labels", labels)
        .load(f"{data}/{split}-images-idx3-ubyte.gz")
    )


def network(units):
    """A network with a hidden layer of so many units."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


WIDTHS = (16, 128)
networks = [network(units) for units in WIDTHS]
train = images("train").limit(int(rows)).repartition(4).cache()
estimator = KerasEstimator(
    model=networks[0],
    optimizer="adam",
    loss="sparse_categorical_crossentropy",
    featuresCol="image",
    epochs=3,
    seed=1,
    verbose=0,
)
grid = (
    ParamGridBuilder()
    .addGrid(estimator.model, networks)
    .addGrid(estimator.learningRate, [0.0001, 0.003])
    .build()
)
accuracy = MulticlassClassificationEvaluator(metricName="accuracy")
search = CrossValidator(
    estimator=estimator,
    estimatorParamMaps=grid,
    evaluator=accuracy,
    numFolds=2,
    seed=1,
    parallelism=int(parallelism),
)
found = search.fit(train)

units = [width for width in WIDTHS for _ in range(len(grid) // len(WIDTHS))]
for width, point, metric in zip(units, grid, found.avgMetrics, strict=True):
    print(f"units {width} learningRate {point[estimator.learningRate]}: accuracy {metric:.4f}")
best = found.bestModel
best.write().overwrite().save(model_path)
print(
    f"best model on the test rows: accuracy {accuracy.evaluate(best.transform(images('t10k'))):.4f}"
)
spark.stop()
