// SPDX-License-Identifier: Apache-2.0
package io.flambeau

import org.apache.spark.sql.{Column, DataFrame, SparkSession}
import org.apache.spark.sql.functions._

import io.flambeau.ml.KerasEstimator

/** A small task that a small model learns: which of two quarters a point lies in. */
object Samples {

  /** A Keras 3 model, 2 inputs, one hidden layer, softmax over 2 classes. */
  val Classifier: String = classifier(8)

  /** As [[Classifier]], with so many units in its hidden layer. */
  def classifier(hidden: Int): String = sequential(dense("hidden", hidden, "relu"), dense("classes", 2, "softmax"))

  /** One sigmoid unit. */
  val Binary: String = sequential(dense("hidden", 8, "relu"), dense("chance", 1, "sigmoid"))

  def points(spark: SparkSession, rows: Long, partitions: Int): DataFrame =
    spark
      .range(0, rows, 1, partitions)
      .select(col("id"), array(coordinate(37, 101), coordinate(53, 103)).as("point"))
      .withColumn("label", (col("point")(0) + col("point")(1) > 0).cast("long"))

  /** In -1 to 1, without an order. */
  private def coordinate(factor: Int, modulus: Int): Column =
    (pmod(col("id") * factor, lit(modulus)) * 2.0 / modulus - 1).cast("float")

  def estimator(workers: Int): KerasEstimator =
    new KerasEstimator()
      .setModel(Classifier)
      .setOptimizer("adam")
      .setLoss("sparse_categorical_crossentropy")
      .setMetrics(Array("accuracy"))
      .setFeaturesCol("point")
      .setNumWorkers(workers)
      .setBatchSize(16)
      .setEpochs(3)
      .setVerbose(0)

  private def dense(name: String, units: Int, activation: String): String =
    s"""{"module":"keras.layers","class_name":"Dense","registered_name":null,"config":{"name":"$name",
       |"trainable":true,"dtype":"float32","units":$units,"activation":"$activation","use_bias":true,
       |"kernel_initializer":{"module":"keras.initializers","class_name":"GlorotUniform",
       |"config":{"seed":null},"registered_name":null},
       |"bias_initializer":{"module":"keras.initializers","class_name":"Zeros",
       |"config":{},"registered_name":null},
       |"kernel_regularizer":null,"bias_regularizer":null,
       |"kernel_constraint":null,"bias_constraint":null}}""".stripMargin

  private def sequential(layers: String*): String =
    s"""{"module":"keras","class_name":"Sequential","registered_name":null,"config":{"name":"points","trainable":true,
       |"dtype":"float32","layers":[{"module":"keras.layers","class_name":"InputLayer","registered_name":null,
       |"config":{"batch_shape":[null,2],"dtype":"float32","sparse":false,"name":"point"}},
       |${layers.mkString(",")}]}}""".stripMargin
}
