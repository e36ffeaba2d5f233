"""Train a transformer on images as a whole and in two stages, each in an executor of its own.

Usage: train.py IMAGES LABELS MODELS ROWS. IMAGES and LABELS are IDX files as MNIST has them; MODELS
gets a model directory for each way to train; ROWS is how many images train.
"""

import sys

import flambeau
import keras
from flambeau.ml import KerasEstimator
from pyspark.sql import SparkSession

images, labels, models, rows = sys.argv[1:]
spark = flambeau.configure(SparkSession.builder.appName("pipeline")).getOrCreate()
table = spark.read.format("idx").option("labels", labels).load(images)
data = table.limit(int(rows)).repartition(1).cache()

WIDTH = 32


def block(x, name):
    """Attend to the rows of the image, then transform each."""
    y = keras.layers.LayerNormalization(name=f"{name}_norm")(x)
    attention = keras.layers.MultiHeadAttention(4, WIDTH // 4, name=f"{name}_attention")
    x = keras.layers.Add(name=f"{name}_attended")([x, attention(y, y)])
    y = keras.layers.LayerNormalization(name=f"{name}_norm_2")(x)
    y = keras.layers.Dense(4 * WIDTH, activation="gelu", name=f"{name}_up")(y)
    y = keras.layers.Dense(WIDTH, name=f"{name}_down")(y)
    return keras.layers.Add(name=f"{name}_out")([x, y])


def transformer():
    """A row of the image is a step of 28 numbers."""
    inputs = keras.Input((28, 28))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Dense(WIDTH, name="embed")(x)
    for number in range(4):
        x = block(x, f"block_{number}")
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="classes")(x))


model = transformer()
WAYS = {
    "as a whole": {"numWorkers": 1},
    "in two stages": {"numWorkers": 2, "pipelineStages": 2, "pipelineSchedule": "1f1b"},
}
for way, settings in WAYS.items():
    estimator = KerasEstimator(
        model=model,
        optimizer=keras.optimizers.Adam(0.003),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        featuresCol="image",
        batchSize=64,
        epochs=2,
        seed=1,
        modelDir=f"{models}/{way.replace(' ', '-')}",
        **settings,
    )
    history = estimator.fit(data).history
    print(f"{way}: loss {history['loss'][-1]:.4f}, accuracy {history['accuracy'][-1]:.4f}")
spark.stop()
