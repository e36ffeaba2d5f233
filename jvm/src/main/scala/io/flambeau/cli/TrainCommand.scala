// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.spark.sql.{DataFrame, SparkSession}

import io.flambeau.ml.{KerasEstimator, MappingParam}

/** Trains a Keras model on a table and leaves it in a model directory. */
private[cli] object TrainCommand extends Command {
  override val name = "train"
  override val meaning = "train a Keras model on a table"

  override val flags: Seq[Flag] = Seq(
    Flag("model", "the model: a .json or .keras file", required = true),
    Flag("data", "the training table", required = true),
    Tables.FormatFlag,
    Tables.IdxLabelsFlag,
    Tables.StreamFlag,
    Tables.TriggerFlag,
    Flag("validation", "a table of the same columns that only validates"),
    Flag("validation-split", "fraction of the table that only validates"),
    Flag("evaluator", "whether a task of its own validates while training goes on", default = Some("false")),
    Flag("label", "label column", default = Some("label")),
    Flag("labels", "label columns of a model with several outputs, by commas; instead of label"),
    Flag("label-mapping", "JSON of the outputs' names with label columns; instead of label"),
    Flag("label-encoding", "of labels: none, one_hot or argmax; or JSON by output", default = Some("none")),
    Flag("features", "feature columns, by commas; all but labels and weight if absent"),
    Tables.InputMappingFlag,
    Flag("weight", "row weight column"),
    Flag("class-weight", "JSON of class ids with the weights of their rows"),
    Flag("optimizer", "Keras name or JSON; the .keras file's own if absent"),
    Flag("learning-rate", "instead of the one that the optimizer says"),
    Flag("loss", "Keras name or JSON; the .keras file's own if absent"),
    Flag("loss-weights", "JSON, of a model with several outputs"),
    Flag("metrics", "Keras names by commas, or one in JSON"),
    Flag("weighted-metrics", "as metrics, with the rows' weights"),
    Flag("initial-weights", "weights to start from: .keras, .weights.h5, .h5 or a TensorFlow checkpoint"),
    Flag("skip-mismatch", "whether layers that those do not fit keep what they have", default = Some("false")),
    Flag("frozen-layers", "names of layers that keep their weights, by commas"),
    Flag("export-formats", "formats besides .keras, by commas: weights.h5, h5, tf"),
    Flag("epochs", "passes over the table (default 1, or as many as max-steps takes)"),
    Flag("steps-per-epoch", "steps of an epoch, instead of a pass over the table"),
    Flag("repeat", "whether an epoch that runs out of rows goes on with the first ones", default = Some("false")),
    Flag("max-steps", "steps after which training ends"),
    Flag("batch-size", "rows of each worker in one step (default 32)"),
    Flag("global-batch-size", "rows of all workers in one step; instead of batch-size"),
    Flag("drop-remainder", "whether a worker leaves out its last batch if it is smaller", default = Some("false")),
    Flag("input-mode", "spark: the workers keep the rows; direct: they read the files anew in every pass", default = Some("spark")),
    Flag("shuffle-buffer", "rows that wait to be drawn at random while rows are received", default = Some("4096")),
    Flag("workers", "tasks that train together", default = Some("1")),
    Flag("seed", "seed of initial weights and shuffling", default = Some("42")),
    Flag("shuffle", "whether each epoch takes the rows in a new order", default = Some("true")),
    Flag("local-steps", "steps that each worker makes by itself before all average their weights", default = Some("1")),
    Flag("shard-optimizer-state", "whether each worker keeps the optimizer's state of a part of the weights only", default = Some("false")),
    Flag("strategy", "sync: workers step together; async: they push to servers that hold the weights", default = Some("sync")),
    Flag("ps", "tasks that hold the weights, with strategy async (default 1); with 0 the workers do"),
    Flag("max-staleness", "batches that a worker may be ahead of the slowest, with strategy async"),
    Flag("pipeline-stages", "stages that the model is cut into, each on workers of its own", default = Some("1")),
    Flag("layer-stages", "JSON of layers with their stages; by the time that layers take if absent"),
    Flag("micro-batches", "parts of a batch, on which stages work at the same time (default 4)"),
    Flag("pipeline-schedule", "gpipe or 1f1b, which takes less memory (default gpipe)"),
    Flag("tensor-parallel", "workers that share the weights of each layer", default = Some("1")),
    Flag("allreduce-dtype", "in which type gradients travel: float32, bfloat16 or float16", default = Some("float32")),
    Flag("null-policy", "what a null does: error, zero or drop", default = Some("error")),
    Flag("checkpoint-every-epochs", "epochs between checkpoints", default = Some("1")),
    Flag("checkpoint-every-steps", "steps between checkpoints within an epoch"),
    Flag("keep-checkpoints", "how many of the newest checkpoints stay", default = Some("5")),
    Flag("resume", "whether training goes on where one was interrupted in model-dir", default = Some("true")),
    Flag("model-dir", "directory for checkpoints, TensorBoard events and the export", required = true)) ++ Tables.MappingFlags

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val table = Tables.read(spark, arguments, arguments("data"))
    val estimator = arguments.checked(configured(arguments, table))
    if (arguments.get("stream").isDefined) trainOnStream(spark, arguments, estimator, out)
    else trainOnTable(spark, arguments, estimator, table, out)
  }

  /** Each micro-batch leaves the model that it made. */
  private def trainOnStream(spark: SparkSession, arguments: Arguments, estimator: KerasEstimator, out: PrintStream): Unit = {
    if (arguments.get("validation").isDefined) {
      throw new UsageException("--validation is not for a stream; --validation-split holds out rows of each micro-batch")
    }
    Tables.run(Tables.stream(spark, arguments, arguments("data")).writeStream.foreachBatch(estimator.fitBatch _), arguments)
    out.println(s"the stream is at its end; model in ${arguments("model-dir")}")
  }

  private def trainOnTable(
      spark: SparkSession,
      arguments: Arguments,
      estimator: KerasEstimator,
      table: DataFrame,
      out: PrintStream): Unit = {
    val model = arguments.get("validation") match {
      case Some(location) => estimator.fit(table, Tables.read(spark, arguments, location))
      case None => estimator.fit(table)
    }
    val last = model.history.toSeq.collect { case (metric, values) if values.nonEmpty => f"$metric ${values.last}%.4f" }
    val epochs = model.history.values.map(_.length).maxOption.getOrElse(0)
    out.println(s"trained $epochs epochs: ${last.mkString(", ")}; model in ${arguments("model-dir")}")
  }

  /** An estimator with the params that the options name. */
  private def configured(arguments: Arguments, table: DataFrame): KerasEstimator = {
    val estimator = new KerasEstimator()
      .setModel(arguments("model"))
      .setRepeat(arguments.flag("repeat"))
      .setDropRemainder(arguments.flag("drop-remainder"))
      .setInputMode(arguments.choice("input-mode", "spark", "direct"))
      .setShuffleBuffer(arguments.count("shuffle-buffer"))
      .setNumWorkers(arguments.count("workers"))
      .setSeed(arguments.long("seed"))
      .setShuffle(arguments.flag("shuffle"))
      .setAllreduceDtype(arguments.choice("allreduce-dtype", "float32", "bfloat16", "float16"))
      .setLocalSteps(arguments.count("local-steps"))
      .setShardOptimizerState(arguments.flag("shard-optimizer-state"))
      .setStrategy(arguments.choice("strategy", "sync", "async"))
      .setPipelineStages(arguments.count("pipeline-stages"))
      .setTensorParallel(arguments.count("tensor-parallel"))
      .setEvaluator(arguments.flag("evaluator"))
      .setNullPolicy(arguments.choice("null-policy", "error", "zero", "drop"))
      .setSkipMismatch(arguments.flag("skip-mismatch"))
      .setCheckpointEveryEpochs(arguments.count("checkpoint-every-epochs"))
      .setKeepCheckpoints(arguments.count("keep-checkpoints"))
      .setResume(arguments.flag("resume"))
      .setModelDir(arguments("model-dir"))
    def whenSet(name: String)(use: String => Unit): Unit = arguments.get(name).foreach(_ => use(name))
    whenSet("epochs")(name => estimator.setEpochs(arguments.count(name)))
    whenSet("steps-per-epoch")(name => estimator.setStepsPerEpoch(arguments.count(name)))
    whenSet("max-steps")(name => estimator.setMaxSteps(arguments.count(name).toLong))
    whenSet("batch-size")(name => estimator.setBatchSize(arguments.count(name)))
    whenSet("global-batch-size")(name => estimator.setGlobalBatchSize(arguments.count(name)))
    whenSet("checkpoint-every-steps")(name => estimator.setCheckpointEverySteps(arguments.count(name).toLong))
    whenSet("ps")(name => estimator.setNumPs(arguments.countFromZero(name)))
    whenSet("max-staleness")(name => estimator.setMaxStaleness(arguments.long(name)))
    whenSet("micro-batches")(name => estimator.setMicroBatches(arguments.count(name)))
    whenSet("pipeline-schedule")(name => estimator.setPipelineSchedule(arguments.choice(name, "gpipe", "1f1b")))
    arguments.get("layer-stages").foreach(estimator.setLayerStages)
    val labels = setLabels(estimator, arguments)
    Tables.setFeatures(estimator, arguments, table, labels ++ arguments.get("weight"))
    estimator.setLabelEncoding(arguments("label-encoding"))
    arguments.get("weight").foreach(estimator.setWeightCol)
    arguments.get("class-weight").foreach(estimator.setClassWeight)
    arguments.get("optimizer").foreach(estimator.setOptimizer)
    whenSet("learning-rate")(name => estimator.setLearningRate(arguments.number(name)))
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
