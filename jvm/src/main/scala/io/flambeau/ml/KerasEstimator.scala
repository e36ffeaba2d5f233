// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.nio.charset.StandardCharsets.UTF_8
import java.util.UUID

import org.apache.hadoop.conf.Configuration
import org.apache.spark.ml.Estimator
import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.util.{DefaultParamsReadable, DefaultParamsWritable, Identifiable}
import org.apache.spark.sql.{Dataset, Row}
import org.apache.spark.sql.types.StructType
import org.json4s.{JNull, JObject, JValue}
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.compact

import io.flambeau.ConfigException
import io.flambeau.train._

/**
 * Trains a Keras model on a DataFrame, `numWorkers` tasks together. The result equals that of one
 * worker on the same global batches, unless strategy is async; no row is dropped or repeated.
 */
final class KerasEstimator(override val uid: String)
    extends Estimator[KerasModel]
    with KerasParams
    with DefaultParamsWritable {

  def this() = this(Identifiable.randomUID("keras"))

  def setModel(value: String): this.type = set(model, value)

  /** @param archive the bytes of a .keras or .h5 file */
  def setModel(archive: Array[Byte]): this.type = set(model, ModelSource.dataUri(archive))
  def setOptimizer(value: String): this.type = set(optimizer, value)
  def setLearningRate(value: Double): this.type = set(learningRate, value)
  def setMetrics(value: Array[String]): this.type = set(metrics, value)
  def setLabelCol(value: String): this.type = set(labelCol, value)
  def setLabelCols(value: Array[String]): this.type = set(labelCols, value)
  def setLabelMapping(value: String): this.type = set(labelMapping, value)
  def setLabelMapping(value: Map[String, Seq[String]]): this.type = set(labelMapping, MappingParam.json(value))
  def setLabelEncoding(value: String): this.type = set(labelEncoding, value)
  def setLabelEncoding(value: Map[String, String]): this.type = set(labelEncoding, ChoiceParam.json(value))
  def setLossWeights(value: String): this.type = set(lossWeights, value)
  def setWeightedMetrics(value: Array[String]): this.type = set(weightedMetrics, value)
  def setClassWeight(value: String): this.type = set(classWeight, value)
  def setFrozenLayers(value: Array[String]): this.type = set(frozenLayers, value)
  def setInitialWeights(value: String): this.type = set(initialWeights, value)
  def setSkipMismatch(value: Boolean): this.type = set(skipMismatch, value)
  def setExportFormats(value: Array[String]): this.type = set(exportFormats, value)
  def setWeightCol(value: String): this.type = set(weightCol, value)
  def setBatchSize(value: Int): this.type = set(batchSize, value)
  def setGlobalBatchSize(value: Int): this.type = set(globalBatchSize, value)
  def setDropRemainder(value: Boolean): this.type = set(dropRemainder, value)
  def setEpochs(value: Int): this.type = set(epochs, value)
  def setStepsPerEpoch(value: Int): this.type = set(stepsPerEpoch, value)
  def setRepeat(value: Boolean): this.type = set(repeat, value)
  def setMaxSteps(value: Long): this.type = set(maxSteps, value)
  def setInputMode(value: String): this.type = set(inputMode, value)
  def setShuffleBuffer(value: Int): this.type = set(shuffleBuffer, value)
  def setNumWorkers(value: Int): this.type = set(numWorkers, value)
  def setSeed(value: Long): this.type = set(seed, value)
  def setShuffle(value: Boolean): this.type = set(shuffle, value)
  def setAllreduceDtype(value: String): this.type = set(allreduceDtype, value)
  def setLocalSteps(value: Int): this.type = set(localSteps, value)
  def setShardOptimizerState(value: Boolean): this.type = set(shardOptimizerState, value)
  def setStrategy(value: String): this.type = set(strategy, value)
  def setNumPs(value: Int): this.type = set(numPs, value)
  def setMaxStaleness(value: Long): this.type = set(maxStaleness, value)
  def setPipelineStages(value: Int): this.type = set(pipelineStages, value)
  def setTensorParallel(value: Int): this.type = set(tensorParallel, value)
  def setMicroBatches(value: Int): this.type = set(microBatches, value)
  def setPipelineSchedule(value: String): this.type = set(pipelineSchedule, value)
  def setLayerStages(value: String): this.type = set(layerStages, value)
  def setLayerStages(value: Map[String, Int]): this.type = set(layerStages, StagesParam.json(value))
  def setValidationIndicatorCol(value: String): this.type = set(validationIndicatorCol, value)
  def setValidationSplit(value: Double): this.type = set(validationSplit, value)
  def setEvaluator(value: Boolean): this.type = set(evaluator, value)
  def setModelDir(value: String): this.type = set(modelDir, value)
  def setCheckpointEveryEpochs(value: Int): this.type = set(checkpointEveryEpochs, value)
  def setCheckpointEverySteps(value: Long): this.type = set(checkpointEverySteps, value)
  def setKeepCheckpoints(value: Int): this.type = set(keepCheckpoints, value)
  def setResume(value: Boolean): this.type = set(resume, value)
  def setVerbose(value: Int): this.type = set(verbose, value)

  /** @throws io.flambeau.FlambeauException saying what failed first, on which rank, and what to do */
  override def fit(dataset: Dataset[_]): KerasModel = fit(dataset, validation)

  /**
   * Trains on `dataset` and validates each epoch with all rows of `validationData`, which has the same
   * columns.
   *
   * @throws io.flambeau.FlambeauException as [[fit(dataset:org\.apache\.spark\.sql\.Dataset[_])*]]
   */
  def fit(dataset: Dataset[_], validationData: Dataset[_]): KerasModel = {
    if (validation != Validation.NoRows) {
      throw new ConfigException(
        "there are validation data, but validationIndicatorCol or validationSplit is set, too. Try: clear it")
    }
    checkColumns(validationData.schema)
    fit(dataset, Validation.Rows(validationData))
  }

  /**
   * Trains a model of its own for each value of column `by`, on the rows of that value: each in one task, as many at
   * once as there are slots. `by` is no feature unless it is named as one, too.
   *
   * @return the models by their values, whose type is that of `by`: strings, whole numbers or booleans
   * @throws io.flambeau.FlambeauException the failure of one of the fits, which names its value
   */
  def fitEach(dataset: Dataset[_], by: String): Map[Any, KerasModel] = {
    FitEachJob.checkKey(dataset.schema, by)
    val alone = Seq[(Boolean, String)](
      ($(numWorkers) > 1, "numWorkers is above 1"), (isAsync, "strategy is async"), ($(evaluator), "evaluator is set"),
      (mode == InputMode.Direct, "inputMode is direct"), (isSet(modelDir), "modelDir is set"))
    alone.collectFirst { case (true, what) => what }.foreach { what =>
      throw new ConfigException(s"$what, but fitEach trains each model in one task and gives it back. Try: clear it")
    }
    transformSchema(dataset.schema)
    checkSteps()
    val results = FitEachJob.run(dataset, specOf(dataset, validation, None), by)
    results.map { case (value, result) => value -> modelOf(result) }.toMap
  }

  /**
   * Trains on a micro-batch of a stream, from where the one before it ended:
   * `stream.writeStream.foreachBatch(estimator.fitBatch _)`. The model stays in the executors between
   * micro-batches. Each leaves a checkpoint and the export in `modelDir`, and one that Spark repeats
   * is trained once: with the stream's checkpointLocation, training is exactly once. `epochs` are
   * those on each micro-batch.
   *
   * @throws io.flambeau.FlambeauException which ends the stream; started again, it goes on
   */
  def fitBatch(batch: Dataset[Row], batchId: Long): Unit = {
    required(modelDir, "setModelDir with a directory that only this stream trains in")
    if (mode == InputMode.Direct) {
      throw new ConfigException("inputMode is direct, but the rows of a stream come once. Try: inputMode spark")
    }
    if (isAsync) {
      throw new ConfigException(
        "strategy is async, but a stream trains each micro-batch in step, to know what it has trained. Try: strategy sync")
    }
    if ($(evaluator)) {
      throw new ConfigException("evaluator is set, but a stream validates each micro-batch by itself. Try: clear evaluator")
    }
    val query = Option(batch.sparkSession.sparkContext.getLocalProperty(KerasEstimator.QueryId))
    if (mesh.size > 1) {
      throw new ConfigException(
        "pipelineStages or tensorParallel is above 1, but the executors keep the model of a stream as a whole. Try: 1")
    }
    // Whoever calls this without a query numbers the batches of one directory.
    val stream = query.getOrElse(UUID.nameUUIDFromBytes($(modelDir).getBytes(UTF_8)).toString)
    run(batch, validation, Some(MicroBatch(stream, batchId)))
  }

  private def fit(dataset: Dataset[_], validation: Validation): KerasModel = {
    modelOf(run(dataset, validation, None))
  }

  private def modelOf(result: FitResult): KerasModel =
    copyValues(new KerasModel(uid, result.model, result.history).setParent(this))

  private def run(dataset: Dataset[_], validation: Validation, microBatch: Option[MicroBatch]): FitResult = {
    transformSchema(dataset.schema)
    checkSteps()
    if ($(evaluator)) checkEvaluator(validation)
    FitJob.run(dataset, specOf(dataset, validation, microBatch), Option.when($(verbose) > 0)(System.out))
  }

  private def specOf(dataset: Dataset[_], validation: Validation, microBatch: Option[MicroBatch]): FitSpec = {
    val conf = dataset.sparkSession.sparkContext.hadoopConfiguration
    val weights = get(initialWeights).map(InitialWeights.read(_, conf))
    FitSpec(
      files = ModelFiles(modelSource(conf), weights.map(_.bytes).orNull),
      columns = columns,
      training = trainingJson(weights, $(seed) + microBatch.fold(0L)(_.number)),
      validation = validation,
      numWorkers = $(numWorkers),
      seed = $(seed),
      shuffle = $(shuffle),
      inputMode = mode,
      modelDir = get(modelDir),
      keepCheckpoints = if (microBatch.isDefined) $(keepCheckpoints).max(2) else $(keepCheckpoints),
      resume = $(resume),
      servers = Option.when(isAsync)($(numPs)),
      mesh = mesh,
      device = chosenDevice,
      evaluator = Option.when($(evaluator))($(checkpointEveryEpochs)),
      microBatch = microBatch)
  }

  private def mesh: MeshShape = MeshShape($(pipelineStages), $(tensorParallel))

  private def isAsync: Boolean = $(strategy) == "async"

  private def mode: InputMode = if ($(inputMode) == "direct") InputMode.Direct else InputMode.Spark

  /** Refuses numbers that do not go together. */
  private def checkSteps(): Unit = {
    if ($(repeat) && !isSet(stepsPerEpoch)) {
      throw new ConfigException("repeat is set without stepsPerEpoch: an epoch would have no end. Try: set both")
    }
    Seq(numPs, maxStaleness).filter(isSet(_) && !isAsync).foreach { param =>
      throw new ConfigException(s"${param.name} is set, but strategy is sync, which has no servers. Try: strategy async")
    }
    Seq(microBatches, pipelineSchedule, layerStages).filter(isSet(_) && $(pipelineStages) == 1).foreach { param =>
      throw new ConfigException(s"${param.name} is set, but pipelineStages is 1. Try: pipelineStages, or clear it")
    }
    val replicas = mesh.replicas($(numWorkers))
    if (isSet(learningRate) && !isSet(optimizer)) {
      throw new ConfigException("learningRate is set without optimizer, whose learning rate it is. Try: set both")
    }
    get(globalBatchSize).foreach { rows =>
      if (isSet(batchSize)) throw new ConfigException("batchSize and globalBatchSize are both set. Try: clear one of them")
      if (rows < replicas) {
        throw new ConfigException(
          s"globalBatchSize is $rows, which leaves some of the $replicas workers without a row. Try: at least " +
            s"$replicas, or fewer workers")
      }
    }
  }

  /** Refuses an evaluator that would see nothing. */
  private def checkEvaluator(validation: Validation): Unit = {
    required(modelDir, "setModelDir: the evaluator takes the weights from the checkpoints there")
    if (mesh.size > 1) {
      throw new ConfigException(
        "evaluator is set, but the model is on several workers (pipelineStages, tensorParallel), and one task has no room " +
          "for it. Try: clear evaluator")
    }
    if (validation == Validation.NoRows) {
      throw new ConfigException(
        "evaluator is set, but there are no rows to validate with. Try: validationSplit, validationIndicatorCol or a " +
          "second DataFrame")
    }
    if (isAsync) {
      throw new ConfigException(
        "evaluator is set, but strategy is async, where workers validate without holding each other up. Try: clear evaluator")
    }
  }

  private def checkColumns(schema: StructType): Unit = {
    checkInputs(schema)
    columns.labelNames.foreach(ColumnChecks.requireTensor(schema, "label column", _))
    get(weightCol).foreach(ColumnChecks.requireNumber(schema, "weightCol", _))
  }

  override def transformSchema(schema: StructType): StructType = {
    checkColumns(schema)
    get(validationIndicatorCol).foreach(ColumnChecks.requireBoolean(schema, "validationIndicatorCol", _))
    // How many outputs the model has is known once it is read: when it is fitted.
    KerasModel.appended(schema, Seq(ModelOutput("output", Meaning.Values)), $(predictionCol), $(outputCol))
  }

  override def copy(extra: ParamMap): KerasEstimator = defaultCopy(extra)

  private def modelSource(conf: Configuration): Array[Byte] =
    ModelSource.read(required(model, "setModel with the model's JSON, path or bytes"), conf)

  private def validation: Validation = (get(validationIndicatorCol), $(validationSplit)) match {
    case (Some(_), fraction) if fraction > 0 =>
      throw new ConfigException("validationIndicatorCol and validationSplit are both set. Try: clear one of them")
    case (Some(name), _) => Validation.Indicated(name)
    case (None, fraction) if fraction > 0 => Validation.Fraction(fraction)
    case _ => Validation.NoRows
  }

  private def meshJson: JObject =
    ("pipeline" -> $(pipelineStages)) ~
      ("tensor" -> $(tensorParallel)) ~
      ("micro_batches" -> (if ($(pipelineStages) == 1) 1 else $(microBatches))) ~
      ("schedule" -> $(pipelineSchedule)) ~
      ("stages" -> get(layerStages).fold(Map.empty[String, Int])(StagesParam.read(layerStages.name, _)))

  /** Without optimizer, loss and metrics of its own, a .keras file's compile config applies. */
  private def trainingJson(weights: Option[InitialWeights], seed: Long): String = {
    def initial(files: InitialWeights): JValue =
      ("lengths" -> files.lengths) ~ ("skip_mismatch" -> $(skipMismatch))
    def spec(param: Param[String]): JValue = get(param).fold[JValue](JNull)(ModelSource.spec)
    def rated(optimizer: JValue): JValue = get(learningRate).fold(optimizer)(ModelSource.withLearningRate(optimizer, _))
    // One text in JSON is a list or a dictionary by output, as Keras takes it.
    def specs(texts: Array[String]): JValue = texts match {
      case Array(text) if text.trim.startsWith("[") || ModelSource.isMapping(text) => ModelSource.json("metrics", text)
      case several => several.toList.map(ModelSource.spec)
    }
    compact(
      ("optimizer" -> rated(spec(optimizer))) ~
        ("loss" -> spec(loss)) ~
        ("metrics" -> get(metrics).map(specs)) ~
        ("weighted_metrics" -> get(weightedMetrics).map(specs)) ~
        ("loss_weights" -> get(lossWeights).map(ModelSource.json("lossWeights", _))) ~
        ("class_weight" -> get(classWeight).fold[JValue](JObject())(ModelSource.json("classWeight", _))) ~
        ("frozen_layers" -> get(frozenLayers).toSeq.flatten) ~
        ("initial_weights" -> weights.map(initial)) ~
        ("export_formats" -> $(exportFormats).toSeq) ~
        ("batch_size" -> get(globalBatchSize).getOrElse($(batchSize))) ~
        ("global_batch" -> isSet(globalBatchSize)) ~
        ("drop_remainder" -> $(dropRemainder)) ~
        ("epochs" -> Option.unless(isSet(maxSteps) && !isSet(epochs))($(epochs))) ~
        ("steps_per_epoch" -> get(stepsPerEpoch)) ~
        ("repeat" -> $(repeat)) ~
        ("max_steps" -> get(maxSteps)) ~
        ("reread" -> (mode == InputMode.Direct)) ~
        ("shuffle" -> $(shuffle)) ~
        ("shuffle_buffer" -> $(shuffleBuffer)) ~
        ("allreduce_dtype" -> $(allreduceDtype)) ~
        ("local_steps" -> $(localSteps)) ~
        ("shard_optimizer_state" -> $(shardOptimizerState)) ~
        ("strategy" -> $(strategy)) ~
        ("num_ps" -> $(numPs)) ~
        ("max_staleness" -> get(maxStaleness)) ~
        ("mesh" -> Option.when(mesh.size > 1)(meshJson)) ~
        ("seed" -> seed) ~
        ("checkpoint_every_epochs" -> $(checkpointEveryEpochs)) ~
        ("checkpoint_every_steps" -> get(checkpointEverySteps).getOrElse(0L)) ~
        ("keep_checkpoints" -> $(keepCheckpoints)))
  }
}

object KerasEstimator extends DefaultParamsReadable[KerasEstimator] {
  /** Where Spark keeps the name of a streaming query, which stays when it is started again. */
  private val QueryId = "sql.streaming.queryId"

  override def load(path: String): KerasEstimator = super.load(path)
}
