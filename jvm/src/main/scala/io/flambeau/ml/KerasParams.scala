// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import org.apache.spark.ml.param._
import org.apache.spark.ml.param.shared._
import org.apache.spark.sql.types.StructType

import io.flambeau.ConfigException
import io.flambeau.jni.{ColumnMapping, Columns, Device}

/** Columns and rules that training and prediction share. */
trait KerasColumnParams extends Params {

  final val featureCols: StringArrayParam =
    new StringArrayParam(this, "featureCols", "feature columns; several scalar columns make one vector")

  final val featuresCol: Param[String] =
    new Param[String](this, "featuresCol", "the feature column when featureCols is not set")

  final val inputMapping: Param[String] = new Param[String](
    this, "inputMapping", "JSON: each model input's name with its column or columns; wins over featureCols",
    MappingParam.isValid)

  final val predictionCol: Param[String] =
    new Param[String](this, "predictionCol", "column for the predicted class or value, a double; of a model with several outputs, the beginning of its name")

  final val outputCol: Param[String] =
    new Param[String](this, "outputCol", "column for the model's raw output, an array of floats; of a model with several, the beginning of its name")

  final val nullPolicy: Param[String] = new Param[String](
    this, "nullPolicy", "what a null in an input column does: error, zero or drop the row",
    ParamValidators.inArray(Array("error", "zero", "drop")))

  final val imageCols: StringArrayParam =
    new StringArrayParam(this, "imageCols", "feature columns of type binary that hold encoded images, PNG or JPEG")

  final val imageResize: Param[String] = new Param[String](
    this, "imageResize", "what becomes of an image that is not of the input's size: error, nearest or bilinear",
    ParamValidators.inArray(Array("error", "nearest", "bilinear")))

  final val sequencePadding: Param[String] = new Param[String](
    this, "sequencePadding",
    "where arrays that are too short are filled up: error, pre or post; or JSON, by the name of an input or output",
    ChoiceParam.isValid("error", "pre", "post"))

  final val sequenceTruncating: Param[String] = new Param[String](
    this, "sequenceTruncating",
    "where arrays that are too long are cut: error, pre or post; or JSON, by the name of an input or output",
    ChoiceParam.isValid("error", "pre", "post"))

  final val loss: Param[String] = new Param[String](this, "loss", "loss: a Keras name or a Keras config in JSON")

  final val device: Param[String] = new Param[String](
    this, "device", "where tasks compute: auto (a GPU if there is one), cpu, cuda, or cuda:N for the GPU of that number",
    (name: String) => Device.parse(name).isDefined)

  setDefault(
    featuresCol -> "features", predictionCol -> "prediction", outputCol -> "output", nullPolicy -> "error",
    imageResize -> "error", sequencePadding -> "error", sequenceTruncating -> "error", device -> "auto")

  final def getFeatureCols: Array[String] = $(featureCols)
  final def getFeaturesCol: String = $(featuresCol)
  final def getInputMapping: String = $(inputMapping)
  final def getPredictionCol: String = $(predictionCol)
  final def getOutputCol: String = $(outputCol)
  final def getNullPolicy: String = $(nullPolicy)
  final def getImageCols: Array[String] = $(imageCols)
  final def getImageResize: String = $(imageResize)
  final def getSequencePadding: String = $(sequencePadding)
  final def getSequenceTruncating: String = $(sequenceTruncating)
  final def getLoss: String = $(loss)
  final def getDevice: String = $(device)

  final def setFeatureCols(value: Array[String]): this.type = set(featureCols, value)
  final def setFeaturesCol(value: String): this.type = set(featuresCol, value)
  final def setInputMapping(value: String): this.type = set(inputMapping, value)
  final def setInputMapping(value: Map[String, Seq[String]]): this.type = set(inputMapping, MappingParam.json(value))
  final def setPredictionCol(value: String): this.type = set(predictionCol, value)
  final def setOutputCol(value: String): this.type = set(outputCol, value)
  final def setNullPolicy(value: String): this.type = set(nullPolicy, value)
  final def setImageCols(value: Array[String]): this.type = set(imageCols, value)
  final def setImageResize(value: String): this.type = set(imageResize, value)
  final def setSequencePadding(value: String): this.type = set(sequencePadding, value)
  final def setSequencePadding(value: Map[String, String]): this.type = set(sequencePadding, ChoiceParam.json(value))
  final def setSequenceTruncating(value: String): this.type = set(sequenceTruncating, value)
  final def setSequenceTruncating(value: Map[String, String]): this.type =
    set(sequenceTruncating, ChoiceParam.json(value))
  final def setLoss(value: String): this.type = set(loss, value)
  final def setDevice(value: String): this.type = set(device, value)

  private[ml] def chosenDevice: Device = Device.parse($(device)).getOrElse(Device.Auto)

  /** The columns that feed the model. */
  private[ml] def inputColumns: Columns = Columns(
    features = get(featureCols).fold(Seq($(featuresCol)))(_.toSeq),
    inputs = get(inputMapping).fold(Map.empty[String, Seq[String]])(MappingParam.read(inputMapping.name, _)),
    labels = Nil,
    outputs = Map.empty,
    weight = None,
    nullPolicy = $(nullPolicy),
    mapping = ColumnMapping(
      images = get(imageCols).toSeq.flatten,
      imageResize = $(imageResize),
      sequencePadding = $(sequencePadding),
      sequenceTruncating = $(sequenceTruncating)))

  /** @throws io.flambeau.DataException for a feature column that is missing or of no type for its use */
  private[ml] def checkInputs(schema: StructType): Unit = {
    val columns = inputColumns
    columns.inputNames.foreach(ColumnChecks.requireInput(schema, "feature column", _))
    columns.mapping.images.foreach(ColumnChecks.requireImage(schema, columns.inputNames, _))
  }
}

/** The parameters of [[KerasEstimator]]; their names and defaults are those of Keras and Spark ML. */
trait KerasParams extends KerasColumnParams with HasSeed {

  final val model: Param[String] =
    new Param[String](this, "model", "the Keras model: its JSON, the path of a .json, .keras or .h5 file, or such a file as a data: URI")

  final val optimizer: Param[String] =
    new Param[String](this, "optimizer", "optimizer: a Keras name or a Keras config in JSON")

  final val learningRate: DoubleParam = new DoubleParam(
    this, "learningRate", "learning rate, instead of the one that optimizer says", ParamValidators.gtEq(0))

  final val metrics: StringArrayParam =
    new StringArrayParam(this, "metrics", "metrics: Keras names or Keras configs in JSON")

  final val labelCol: Param[String] = new Param[String](this, "labelCol", "the label column")

  final val labelCols: StringArrayParam = new StringArrayParam(
    this, "labelCols", "label columns of a model with several outputs, in their order; wins over labelCol")

  final val labelMapping: Param[String] = new Param[String](
    this, "labelMapping", "JSON: each model output's name with its label column or columns; wins over labelCols",
    MappingParam.isValid)

  final val labelEncoding: Param[String] = new Param[String](
    this, "labelEncoding",
    "what labels become: none, one_hot (of class ids) or argmax (of one-hot vectors); or JSON, by the name of an output",
    ChoiceParam.isValid("none", "one_hot", "argmax"))

  final val lossWeights: Param[String] =
    new Param[String](this, "lossWeights", "JSON: weights of the outputs' losses, as Keras's compile takes them")

  final val weightedMetrics: StringArrayParam = new StringArrayParam(
    this, "weightedMetrics", "metrics that weigh rows: Keras names or Keras configs in JSON")

  final val classWeight: Param[String] =
    new Param[String](this, "classWeight", "JSON: class ids with the weights of their rows")

  final val frozenLayers: StringArrayParam =
    new StringArrayParam(this, "frozenLayers", "names of layers whose weights stay as they are")

  final val initialWeights: Param[String] = new Param[String](
    this, "initialWeights",
    "weights to start from: the path of a .keras, .weights.h5 or .h5 file, or of a TensorFlow checkpoint without .index")

  final val skipMismatch: BooleanParam = new BooleanParam(
    this, "skipMismatch", "whether layers that initialWeights does not hold as they are keep what they have")

  final val exportFormats: StringArrayParam = new StringArrayParam(
    this, "exportFormats", "what the export in modelDir is written as: keras, weights.h5, h5, tf",
    (formats: Array[String]) => formats.forall(KerasParams.ExportFormats.contains))

  final val weightCol: Param[String] = new Param[String](this, "weightCol", "the row weight column; none if not set")

  final val batchSize: IntParam =
    new IntParam(this, "batchSize", "rows of each worker in one step", ParamValidators.gt(0))

  final val globalBatchSize: IntParam = new IntParam(
    this, "globalBatchSize", "rows of all workers together in one step; instead of batchSize", ParamValidators.gt(0))

  final val dropRemainder: BooleanParam = new BooleanParam(
    this, "dropRemainder", "whether a worker leaves out the last batch of a pass if it has fewer rows than the others")

  final val epochs: IntParam = new IntParam(
    this, "epochs", "passes over the rows, unless stepsPerEpoch is set; with maxSteps as many as that takes if not set",
    ParamValidators.gt(0))

  final val stepsPerEpoch: IntParam = new IntParam(
    this, "stepsPerEpoch", "steps of an epoch; the next one goes on where it stood in the rows", ParamValidators.gt(0))

  final val repeat: BooleanParam = new BooleanParam(
    this, "repeat", "whether an epoch that runs out of rows before stepsPerEpoch goes on with the first ones")

  final val maxSteps: LongParam =
    new LongParam(this, "maxSteps", "steps after which training ends", ParamValidators.gt(0))

  final val inputMode: Param[String] = new Param[String](
    this, "inputMode",
    "spark: Spark computes the rows once and the workers keep them; direct: each worker reads its part in every pass",
    ParamValidators.inArray(Array("spark", "direct")))

  final val shuffleBuffer: IntParam = new IntParam(
    this, "shuffleBuffer", "rows that wait on each worker so that one can be drawn at random, while rows are received",
    ParamValidators.gt(0))

  final val numWorkers: IntParam =
    new IntParam(this, "numWorkers", "tasks that train together, all at once", ParamValidators.gt(0))

  final val shuffle: BooleanParam = new BooleanParam(this, "shuffle", "whether each epoch has a new order of rows")

  final val allreduceDtype: Param[String] = new Param[String](
    this, "allreduceDtype", "in which type gradients travel between workers: float32, bfloat16 or float16",
    ParamValidators.inArray(Array("float32", "bfloat16", "float16")))

  final val localSteps: IntParam = new IntParam(
    this, "localSteps", "steps that each worker makes by itself before all average their weights", ParamValidators.gt(0))

  final val shardOptimizerState: BooleanParam = new BooleanParam(
    this, "shardOptimizerState", "whether each worker keeps and updates the optimizer's state of a part of the weights only")

  final val strategy: Param[String] = new Param[String](
    this, "strategy",
    "sync: workers take each step together; async: each pushes its gradients to servers that hold the weights, and waits for nobody",
    ParamValidators.inArray(Array("sync", "async")))

  final val numPs: IntParam = new IntParam(
    this, "numPs", "with strategy async: tasks that hold the weights, beside the workers; with 0 each worker holds a part of them",
    ParamValidators.gtEq(0))

  final val maxStaleness: LongParam = new LongParam(
    this, "maxStaleness", "with strategy async: batches that a worker may be ahead of the slowest; any number if not set",
    ParamValidators.gtEq(0))

  final val pipelineStages: IntParam = new IntParam(
    this, "pipelineStages", "stages that the model is cut into, each on workers of its own", ParamValidators.gt(0))

  final val tensorParallel: IntParam = new IntParam(
    this, "tensorParallel", "workers that share the weights of each layer", ParamValidators.gt(0))

  final val microBatches: IntParam = new IntParam(
    this, "microBatches", "with pipelineStages: parts of a batch, which the stages work on at the same time", ParamValidators.gt(0))

  final val pipelineSchedule: Param[String] = new Param[String](
    this, "pipelineSchedule",
    "with pipelineStages: gpipe: all forward passes, then all backward passes; 1f1b: each backward pass as soon as it can be, for less memory",
    ParamValidators.inArray(Array("gpipe", "1f1b")))

  final val layerStages: Param[String] = new Param[String](
    this, "layerStages",
    "with pipelineStages: JSON of layers with their stages, from 0 on; a layer that is not named goes with the one before it; by measured time if not set",
    StagesParam.isValid)

  final val validationIndicatorCol: Param[String] = new Param[String](
    this, "validationIndicatorCol", "boolean column, true for rows that only validate")

  final val validationSplit: DoubleParam = new DoubleParam(
    this, "validationSplit", "fraction of the rows, drawn with the seed, that only validate",
    ParamValidators.inRange(0.0, 1.0, lowerInclusive = true, upperInclusive = false))

  final val evaluator: BooleanParam = new BooleanParam(
    this, "evaluator", "whether a task of its own validates the checkpoint of each epoch while training goes on")

  final val modelDir: Param[String] = new Param[String](
    this, "modelDir", "directory for checkpoints, TensorBoard events and the exported model; none if not set")

  final val checkpointEveryEpochs: IntParam =
    new IntParam(this, "checkpointEveryEpochs", "epochs between checkpoints", ParamValidators.gt(0))

  final val checkpointEverySteps: LongParam = new LongParam(
    this, "checkpointEverySteps", "steps between checkpoints within an epoch; none if not set", ParamValidators.gt(0))

  final val keepCheckpoints: IntParam =
    new IntParam(this, "keepCheckpoints", "newest checkpoints that are kept", ParamValidators.gt(0))

  final val resume: BooleanParam = new BooleanParam(
    this, "resume", "whether a fit goes on from the checkpoint of one that was interrupted in modelDir")

  final val verbose: IntParam =
    new IntParam(this, "verbose", "1: print progress, 0: be silent", ParamValidators.inArray(Array(0, 1)))

  setDefault(
    labelCol -> "label", labelEncoding -> "none", batchSize -> 32, epochs -> 1, numWorkers -> 1, seed -> 42L, shuffle -> true,
    allreduceDtype -> "float32", localSteps -> 1, shardOptimizerState -> false, strategy -> "sync", numPs -> 1,
    pipelineStages -> 1, tensorParallel -> 1, microBatches -> 4, pipelineSchedule -> "gpipe", dropRemainder -> false,
    repeat -> false, inputMode -> "spark", shuffleBuffer -> 4096, skipMismatch -> false, exportFormats -> Array("keras"),
    validationSplit -> 0.0, evaluator -> false, checkpointEveryEpochs -> 1, keepCheckpoints -> 5, resume -> true, verbose -> 1)

  final def getModel: String = $(model)
  final def getOptimizer: String = $(optimizer)
  final def getLearningRate: Double = $(learningRate)
  final def getMetrics: Array[String] = $(metrics)
  final def getLabelCol: String = $(labelCol)
  final def getLabelCols: Array[String] = $(labelCols)
  final def getLabelMapping: String = $(labelMapping)
  final def getLabelEncoding: String = $(labelEncoding)
  final def getLossWeights: String = $(lossWeights)
  final def getWeightedMetrics: Array[String] = $(weightedMetrics)
  final def getClassWeight: String = $(classWeight)
  final def getFrozenLayers: Array[String] = $(frozenLayers)
  final def getInitialWeights: String = $(initialWeights)
  final def getSkipMismatch: Boolean = $(skipMismatch)
  final def getExportFormats: Array[String] = $(exportFormats)
  final def getWeightCol: String = $(weightCol)
  final def getBatchSize: Int = $(batchSize)
  final def getGlobalBatchSize: Int = $(globalBatchSize)
  final def getDropRemainder: Boolean = $(dropRemainder)
  final def getEpochs: Int = $(epochs)
  final def getStepsPerEpoch: Int = $(stepsPerEpoch)
  final def getRepeat: Boolean = $(repeat)
  final def getMaxSteps: Long = $(maxSteps)
  final def getInputMode: String = $(inputMode)
  final def getShuffleBuffer: Int = $(shuffleBuffer)
  final def getNumWorkers: Int = $(numWorkers)
  final def getShuffle: Boolean = $(shuffle)
  final def getAllreduceDtype: String = $(allreduceDtype)
  final def getLocalSteps: Int = $(localSteps)
  final def getShardOptimizerState: Boolean = $(shardOptimizerState)
  final def getStrategy: String = $(strategy)
  final def getNumPs: Int = $(numPs)
  final def getMaxStaleness: Long = $(maxStaleness)
  final def getPipelineStages: Int = $(pipelineStages)
  final def getTensorParallel: Int = $(tensorParallel)
  final def getMicroBatches: Int = $(microBatches)
  final def getPipelineSchedule: String = $(pipelineSchedule)
  final def getLayerStages: String = $(layerStages)
  final def getValidationIndicatorCol: String = $(validationIndicatorCol)
  final def getValidationSplit: Double = $(validationSplit)
  final def getEvaluator: Boolean = $(evaluator)
  final def getModelDir: String = $(modelDir)
  final def getCheckpointEveryEpochs: Int = $(checkpointEveryEpochs)
  final def getCheckpointEverySteps: Long = $(checkpointEverySteps)
  final def getKeepCheckpoints: Int = $(keepCheckpoints)
  final def getResume: Boolean = $(resume)
  final def getVerbose: Int = $(verbose)

  private[ml] def columns: Columns = {
    val inputs = inputColumns
    inputs.copy(
      labels = get(labelCols).fold(Seq($(labelCol)))(_.toSeq),
      outputs = get(labelMapping).fold(Map.empty[String, Seq[String]])(MappingParam.read(labelMapping.name, _)),
      weight = get(weightCol),
      mapping = inputs.mapping.copy(labelEncoding = $(labelEncoding)))
  }

  private[ml] def required(param: Param[String], advice: String): String =
    get(param).getOrElse(throw new ConfigException(s"${param.name} is not set. Try: $advice"))
}

object KerasParams {
  /** The archive, which is always written, Keras's two HDF5 files, TensorFlow's checkpoint. */
  private[ml] val ExportFormats = Set("keras", "weights.h5", "h5", "tf")
}
