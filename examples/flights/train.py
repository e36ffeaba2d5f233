"""Will a flight arrive a quarter of an hour late? A model with two inputs.

Usage: train.py CSV MODEL_DIR. One input takes three columns of strings, the other five of numbers;
what the layers have to know of them (codes, means and variances) they learn on the driver.
"""

import sys

import flambeau
import keras
import numpy as np
from flambeau.ml import KerasEstimator
from pyspark.sql import SparkSession

data, model_dir = sys.argv[1:]
spark = flambeau.configure(SparkSession.builder.appName("flights")).getOrCreate()

CODES = ["carrier", "origin", "dest"]
NUMBERS = ["month", "weekday", "hour", "minute", "distance"]
flights = (
    spark.read.csv(data, header=True, inferSchema=True, nullValue="NA")
    .where("arr_delay IS NOT NULL")
    .selectExpr("*", "dayofweek(time_hour) AS weekday", "float(arr_delay > 15) AS late")
    .select(*CODES, *NUMBERS, "late", "day")
    .cache()
)
train, test = flights.where("day % 5 > 0"), flights.where("day % 5 = 0")

lookup = keras.layers.StringLookup()
lookup.adapt([row[0] for name in CODES for row in train.select(name).distinct().collect()])
normalize = keras.layers.Normalization()
sample = train.select(*NUMBERS).sample(0.1, seed=1).collect()
normalize.adapt(np.array(sample, "float32"))

codes = keras.Input((len(CODES),), dtype="string", name="codes")
numbers = keras.Input((len(NUMBERS),), name="numbers")
embedded = keras.layers.Embedding(lookup.vocabulary_size(), 8)(lookup(codes))
features = keras.layers.Concatenate()([keras.layers.Flatten()(embedded), normalize(numbers)])
hidden = keras.layers.Dense(64, activation="relu")(features)
hidden = keras.layers.Dense(32, activation="relu")(hidden)
late = keras.layers.Dense(1, activation="sigmoid", name="late")(hidden)
model = keras.Model([codes, numbers], late)

estimator = KerasEstimator(
    model=model,
    optimizer=keras.optimizers.Adam(0.002),
    loss="binary_crossentropy",
    metrics=["AUC"],
    inputMapping={"codes": CODES, "numbers": NUMBERS},
    labelCol="late",
    batchSize=256,
    epochs=2,
    numWorkers=2,
    seed=1,
    modelDir=model_dir,
)
fitted = estimator.fit(train)
print("history:", {name: [round(v, 4) for v in values] for name, values in fitted.history.items()})

predicted = fitted.transform(test).selectExpr("*", "output[0] AS probability")
predicted.write.mode("overwrite").json(f"{model_dir}/predictions")
spark.read.json(f"{model_dir}/predictions").createOrReplaceTempView("predictions")
spark.sql(
    "SELECT floor(probability * 10) * 10 AS percent_from, count(*) AS flights, "
    "round(100 * avg(late), 1) AS percent_late FROM predictions GROUP BY 1 ORDER BY 1"
).show()
spark.stop()
