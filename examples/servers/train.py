"""Train TensorFlowOnSpark's 1.4 MNIST model through parameter servers.

Usage: train.py FILES MODELS STEPS. FILES is what examples/tfos/write.py wrote; MODELS gets a model
directory for each way to train; STEPS are batches of 100 rows, of all workers together.
"""

import sys

import flambeau
import keras
from flambeau.ml import KerasEstimator
from pyspark.sql import SparkSession
from pyspark.sql.functions import expr

files, models, steps = sys.argv[1:]
spark = flambeau.configure(SparkSession.builder.appName("servers")).getOrCreate()
train, test = (
    spark.read.format("tfrecord").load(f"{files}/v1/tfr/{split}") for split in ("train", "test")
)
WAYS = {
    "in step, 2 workers": {"numWorkers": 2, "batchSize": 50},
    "1 server, 2 workers": {"numWorkers": 2, "strategy": "async", "numPs": 1},
    "2 servers, 3 workers": {"numWorkers": 3, "strategy": "async", "numPs": 2},
}
for way, settings in WAYS.items():
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    estimator = KerasEstimator(
        model=model,
        loss="categorical_crossentropy",
        optimizer=keras.optimizers.Adagrad(0.01),
        metrics=["accuracy"],
        featuresCol="image",
        maxSteps=int(steps),
        checkpointEverySteps=200,
        seed=1,
        modelDir=f"{models}/{way.replace(', ', '-').replace(' ', '-')}",
        **({"batchSize": 100} | settings),
    )
    predicted = estimator.fit(train).transform(test)
    # The place of the 1.
    right = expr("avg(int(prediction = array_position(label, 1) - 1))")
    print(f"{way}: accuracy {predicted.select(right).head()[0]:.4f}", flush=True)
spark.stop()
