"""Which section of Debian is a package in? A classifier of short texts.

Usage: train.py CSV MODEL_DIR. Keras builds the model on the driver, the vocabulary included; the
executors, which have neither Python nor TensorFlow, train it on the strings of a column.
"""

import sys

import flambeau
import keras
from flambeau.ml import KerasEstimator
from pyspark.ml.feature import StringIndexer
from pyspark.sql import SparkSession

data, model_dir = sys.argv[1:]
spark = flambeau.configure(SparkSession.builder.appName("packages")).getOrCreate()

packages = spark.read.csv(data, "section STRING, description STRING", header=True, escape='"')
packages = packages.selectExpr("*", "pmod(hash(description), 5) = 0 AS test").cache()
indexer = StringIndexer(inputCol="section", outputCol="label").fit(packages)
labelled = indexer.transform(packages)
train, test = labelled.where("NOT test"), labelled.where("test")

vectorize = keras.layers.TextVectorization(max_tokens=10_000, output_sequence_length=12)
vectorize.adapt([row.description for row in train.select("description").collect()])
model = keras.Sequential(
    [
        keras.Input((1,), dtype="string"),
        vectorize,
        keras.layers.Embedding(10_000, 32, mask_zero=True),
        keras.layers.Bidirectional(keras.layers.LSTM(32)),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(len(indexer.labels), activation="softmax"),
    ]
)

estimator = KerasEstimator(
    model=model,
    optimizer=keras.optimizers.Adam(0.003),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    featuresCol="description",
    labelCol="label",
    batchSize=64,
    epochs=2,
    numWorkers=2,
    seed=1,
    modelDir=model_dir,
)
fitted = estimator.fit(train)
print("accuracy of each epoch:", [round(value, 4) for value in fitted.history["accuracy"]])

predicted = fitted.transform(test)
predicted.write.mode("overwrite").json(f"{model_dir}/predictions")
spark.read.json(f"{model_dir}/predictions").createOrReplaceTempView("predictions")
spark.sql("SELECT avg(int(prediction = label)) AS accuracy FROM predictions").show()
spark.stop()
