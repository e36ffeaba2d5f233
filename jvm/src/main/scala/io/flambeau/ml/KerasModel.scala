// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.util.Base64
import java.util.concurrent.ConcurrentHashMap

import org.apache.spark.ml.Model
import org.apache.spark.ml.param.ParamMap
import org.apache.spark.ml.util._
import org.apache.spark.sql.{DataFrame, Dataset, SparkSession}
import org.apache.spark.sql.flambeau.MapRows
import org.apache.spark.sql.types._
import org.json4s.jackson.JsonMethods.compact

import io.flambeau.ConfigException
import io.flambeau.jni.{Columns, DriverCheck}
import io.flambeau.train.History

/**
 * A trained Keras model. `transform` keeps every input column, in order, and adds the model's
 * output and the predicted class or value.
 *
 * @param keras the model as .keras bytes
 * @param history each metric's value after each epoch; empty for a model that was not trained here
 */
final class KerasModel(
    override val uid: String,
    val keras: Array[Byte],
    val history: Map[String, Array[Double]])
    extends Model[KerasModel]
    with KerasColumnParams
    with DefaultParamsWritable {

  /** Without weights: for the reader, which fills in what it loads. */
  private[ml] def this(uid: String) = this(uid, Array.emptyByteArray, Map.empty)

  /** The history as JSON, for other languages. */
  def historyJson: String = compact(History.json(history))

  /** The .keras bytes as base64, for other languages. */
  def kerasBase64: String = Base64.getEncoder.encodeToString(keras)

  override def transform(dataset: Dataset[_]): DataFrame = {
    val schema = transformSchema(dataset.schema, logging = true)
    val drops = $(nullPolicy) == "drop"
    val input =
      if (drops) dataset.toDF().where(inputColumns.names.map(name => Columns.named(name).isNotNull).reduce(_ && _))
      else dataset.toDF()
    val columns = if (drops) inputColumns.copy(nullPolicy = "error") else inputColumns
    checked(columns, input.schema)
    val model = dataset.sparkSession.sparkContext.broadcast(keras)
    val prediction = new PartitionPrediction(columns, input.schema, model, outputs, chosenDevice)
    MapRows(input, schema, "KerasModel")(prediction.apply)
  }

  /** The columns that this model is known to accept: a pipeline asks again and again. */
  @transient private lazy val accepted = ConcurrentHashMap.newKeySet[(Columns, StructType)]()

  private def checked(columns: Columns, schema: StructType): Unit = {
    val asked = (columns, columns.of(schema))
    if (!accepted.contains(asked)) {
      DriverCheck.predict(columns, schema, keras)
      accepted.add(asked)
    }
  }

  override def transformSchema(schema: StructType): StructType = {
    checkInputs(schema)
    KerasModel.appended(schema, outputs, $(predictionCol), $(outputCol))
  }

  override def copy(extra: ParamMap): KerasModel =
    copyValues(new KerasModel(uid, keras, history), extra).setParent(parent)

  /** This model's parameters on other weights. */
  private[ml] def trained(keras: Array[Byte], history: Map[String, Array[Double]]): KerasModel =
    copyValues(new KerasModel(uid, keras, history))

  override def write: MLWriter = new KerasModelFiles.Writer(super.write, keras, history)

  /** What the model gives; a file that cannot be read is left to the native side to name. */
  @transient private lazy val outputs: Seq[ModelOutput] = {
    val config = ModelSource.config(keras)
    val known = config.toSeq.flatMap { config =>
      ModelOutputs.of(config, get(loss).map(ModelSource.spec).orElse(ModelSource.compiledLoss(config)))
    }
    if (known.isEmpty) Seq(ModelOutput("output", Meaning.Values)) else known
  }
}

object KerasModel extends DefaultParamsReadable[KerasModel] {
  override def read: MLReader[KerasModel] = new KerasModelFiles.Reader(super.read)

  override def load(path: String): KerasModel = super.load(path)

  /** A model from a .keras file, for prediction. */
  def fromKeras(keras: Array[Byte]): KerasModel =
    new KerasModel(Identifiable.randomUID("keras"), keras, Map.empty)

  /** A model from a .keras file on any file system, such as `export/model.keras` of a modelDir. */
  def fromKerasFile(spark: SparkSession, location: String): KerasModel =
    fromKeras(ModelSource.readFile(location, spark.sparkContext.hadoopConfiguration))

  /** As the others, from base64: for other languages. */
  def fromKeras(base64: String): KerasModel = fromKeras(ModelSource.decode(base64))

  /**
   * `schema` with the columns that `transform` adds: of a model with one output `predictionCol` and
   * `outputCol`, of one with several these with `_` and the output's name behind, for each.
   */
  private[ml] def appended(
      schema: StructType,
      outputs: Seq[ModelOutput],
      predictionCol: String,
      outputCol: String): StructType = {
    if (predictionCol == outputCol) {
      throw new ConfigException(s"predictionCol and outputCol are both '$outputCol'. Try: two names")
    }
    outputs.foldLeft(schema) { (schema, output) =>
      val suffix = if (outputs.length > 1) s"_${output.name}" else ""
      ColumnChecks.requireAbsent(schema, "predictionCol", predictionCol + suffix)
      ColumnChecks.requireAbsent(schema, "outputCol", outputCol + suffix)
      schema
        .add(predictionCol + suffix, DoubleType, nullable = true)
        .add(outputCol + suffix, ArrayType(FloatType, containsNull = false), nullable = false)
    }
  }
}
