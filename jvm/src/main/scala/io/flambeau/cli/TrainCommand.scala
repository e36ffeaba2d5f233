// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.functions.lit

import io.flambeau.ml.KerasEstimator

/** Trains a Keras model on a table and leaves it in a model directory. */
private[cli] object TrainCommand extends Command {
  override val name = "train"
  override val meaning = "train a Keras model on a table"

  override val flags: Seq[Flag] = Seq(
    Flag("model", "the model: a .json or .keras file", required = true),
    Flag("data", "the training table", required = true),
    Tables.FormatFlag,
    Flag("validation", "a table of the same columns that only validates"),
    Flag("label", "label column", default = Some("label")),
    Flag("features", "feature columns, by commas; all but label and weight if absent"),
    Flag("weight", "row weight column"),
    Flag("optimizer", "Keras name or JSON; the .keras file's own if absent"),
    Flag("loss", "Keras name or JSON; the .keras file's own if absent"),
    Flag("metrics", "Keras names by commas, or one in JSON"),
    Flag("epochs", "passes over the table", default = Some("1")),
    Flag("batch-size", "rows of each worker in one step", default = Some("32")),
    Flag("workers", "tasks that train together", default = Some("1")),
    Flag("seed", "seed of initial weights and shuffling", default = Some("42")),
    Flag("null-policy", "what a null does: error, zero or drop", default = Some("error")),
    Flag("checkpoint-every-epochs", "epochs between checkpoints", default = Some("1")),
    Flag("model-dir", "directory for checkpoints, TensorBoard events and the export", required = true))

  private val Validates = "__flambeau_validation"

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val table = Tables.read(spark, arguments, arguments("data"))
    val label = arguments("label")
    val estimator = new KerasEstimator()
      .setModel(arguments("model"))
      .setFeatureCols(Tables.features(arguments, table, label +: arguments.get("weight").toSeq))
      .setLabelCol(label)
      .setEpochs(arguments.count("epochs"))
      .setBatchSize(arguments.count("batch-size"))
      .setNumWorkers(arguments.count("workers"))
      .setSeed(arguments.long("seed"))
      .setNullPolicy(arguments.choice("null-policy", "error", "zero", "drop"))
      .setCheckpointEveryEpochs(arguments.count("checkpoint-every-epochs"))
      .setModelDir(arguments("model-dir"))
    arguments.get("weight").foreach(estimator.setWeightCol)
    arguments.get("optimizer").foreach(estimator.setOptimizer)
    arguments.get("loss").foreach(estimator.setLoss)
    arguments.list("metrics").foreach(metrics => estimator.setMetrics(metrics.toArray))

    val rows = arguments.get("validation").fold(table) { location =>
      estimator.setValidationIndicatorCol(Validates)
      val held = Tables.read(spark, arguments, location)
      table.withColumn(Validates, lit(false)).unionByName(held.withColumn(Validates, lit(true)))
    }
    val model = estimator.fit(rows)
    val last = model.history.toSeq.collect { case (metric, values) if values.nonEmpty => f"$metric ${values.last}%.4f" }
    out.println(s"trained ${arguments("epochs")} epochs: ${last.mkString(", ")}; model in ${arguments("model-dir")}")
  }
}
