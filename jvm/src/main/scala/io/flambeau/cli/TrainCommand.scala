// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.spark.sql.{DataFrame, SparkSession}
import org.apache.spark.sql.functions.lit

import io.flambeau.ml.{KerasEstimator, MappingParam}

/** Trains a Keras model on a table and leaves it in a model directory. */
private[cli] object TrainCommand extends Command {
  override val name = "train"
  override val meaning = "train a Keras model on a table"

  override val flags: Seq[Flag] = Seq(
    Flag("model", "the model: a .json or .keras file", required = true),
    Flag("data", "the training table", required = true),
    Tables.FormatFlag,
    Flag("validation", "a table of the same columns that only validates"),
    Flag("validation-split", "fraction of the table that only validates"),
    Flag("label", "label column", default = Some("label")),
    Flag("labels", "label columns of a model with several outputs, by commas; instead of label"),
    Flag("label-mapping", "JSON of the outputs' names with label columns; instead of label"),
    Flag("features", "feature columns, by commas; all but labels and weight if absent"),
    Tables.InputMappingFlag,
    Flag("weight", "row weight column"),
    Flag("class-weight", "JSON of class ids with the weights of their rows"),
    Flag("optimizer", "Keras name or JSON; the .keras file's own if absent"),
    Flag("loss", "Keras name or JSON; the .keras file's own if absent"),
    Flag("loss-weights", "JSON, of a model with several outputs"),
    Flag("metrics", "Keras names by commas, or one in JSON"),
    Flag("weighted-metrics", "as metrics, with the rows' weights"),
    Flag("initial-weights", "weights to start from: .keras, .weights.h5, .h5 or a TensorFlow checkpoint"),
    Flag("skip-mismatch", "whether layers that those do not fit keep what they have", default = Some("false")),
    Flag("frozen-layers", "names of layers that keep their weights, by commas"),
    Flag("export-formats", "formats besides .keras, by commas: weights.h5, h5, tf"),
    Flag("epochs", "passes over the table", default = Some("1")),
    Flag("batch-size", "rows of each worker in one step", default = Some("32")),
    Flag("workers", "tasks that train together", default = Some("1")),
    Flag("seed", "seed of initial weights and shuffling", default = Some("42")),
    Flag("shuffle", "whether each epoch takes the rows in a new order", default = Some("true")),
    Flag("null-policy", "what a null does: error, zero or drop", default = Some("error")),
    Flag("checkpoint-every-epochs", "epochs between checkpoints", default = Some("1")),
    Flag("keep-checkpoints", "how many of the newest checkpoints stay", default = Some("5")),
    Flag("model-dir", "directory for checkpoints, TensorBoard events and the export", required = true))

  private val Validates = "__flambeau_validation"

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val table = Tables.read(spark, arguments, arguments("data"))
    val estimator = arguments.checked(configured(arguments, table))
    val rows = arguments.get("validation").fold(table) { location =>
      estimator.setValidationIndicatorCol(Validates)
      val held = Tables.read(spark, arguments, location)
      table.withColumn(Validates, lit(false)).unionByName(held.withColumn(Validates, lit(true)))
    }
    val model = estimator.fit(rows)
    val last = model.history.toSeq.collect { case (metric, values) if values.nonEmpty => f"$metric ${values.last}%.4f" }
    out.println(s"trained ${arguments("epochs")} epochs: ${last.mkString(", ")}; model in ${arguments("model-dir")}")
  }

  /** An estimator with the params that the options name. */
  private def configured(arguments: Arguments, table: DataFrame): KerasEstimator = {
    val estimator = new KerasEstimator()
      .setModel(arguments("model"))
      .setEpochs(arguments.count("epochs"))
      .setBatchSize(arguments.count("batch-size"))
      .setNumWorkers(arguments.count("workers"))
      .setSeed(arguments.long("seed"))
      .setShuffle(arguments.flag("shuffle"))
      .setNullPolicy(arguments.choice("null-policy", "error", "zero", "drop"))
      .setSkipMismatch(arguments.flag("skip-mismatch"))
      .setCheckpointEveryEpochs(arguments.count("checkpoint-every-epochs"))
      .setKeepCheckpoints(arguments.count("keep-checkpoints"))
      .setModelDir(arguments("model-dir"))
    val labels = setLabels(estimator, arguments)
    Tables.setFeatures(estimator, arguments, table, labels ++ arguments.get("weight"))
    arguments.get("weight").foreach(estimator.setWeightCol)
    arguments.get("class-weight").foreach(estimator.setClassWeight)
    arguments.get("optimizer").foreach(estimator.setOptimizer)
    arguments.get("loss").foreach(estimator.setLoss)
    arguments.get("loss-weights").foreach(estimator.setLossWeights)
    arguments.list("metrics").foreach(metrics => estimator.setMetrics(metrics.toArray))
    arguments.list("weighted-metrics").foreach(metrics => estimator.setWeightedMetrics(metrics.toArray))
    arguments.get("initial-weights").foreach(estimator.setInitialWeights)
    arguments.list("frozen-layers").foreach(layers => estimator.setFrozenLayers(layers.toArray))
    arguments.list("export-formats").foreach(formats => estimator.setExportFormats(formats.toArray))
    arguments.get("validation-split").foreach(_ => estimator.setValidationSplit(arguments.fraction("validation-split")))
    estimator
  }

  /** Tells the estimator its labels, and gives their columns. */
  private def setLabels(estimator: KerasEstimator, arguments: Arguments): Seq[String] =
    (arguments.get("label-mapping"), arguments.list("labels")) match {
      case (Some(mapping), _) =>
        estimator.setLabelMapping(mapping)
        MappingParam.read("labelMapping", mapping).values.flatten.toSeq
      case (None, Some(columns)) =>
        estimator.setLabelCols(columns.toArray)
        columns
      case (None, None) =>
        estimator.setLabelCol(arguments("label"))
        Seq(arguments("label"))
    }
}
