// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.{ByteArrayInputStream, ByteArrayOutputStream, ObjectInputStream, ObjectOutputStream}
import java.util.UUID

import scala.util.Using

import org.apache.spark.TaskContext
import org.apache.spark.sql.{Column, Dataset}
import org.apache.spark.sql.catalyst.{CatalystTypeConverters, InternalRow}
import org.apache.spark.sql.flambeau.SparkInternals
import org.apache.spark.sql.functions.{lit, monotonically_increasing_id, rand}
import org.apache.spark.sql.types._
import org.apache.spark.util.SerializableConfiguration
import org.json4s.jackson.JsonMethods.parse

import io.flambeau.{ConfigException, DataException}
import io.flambeau.jni.{Columns, DriverCheck}

/**
 * Trains a model for each value of a column, each in one task with all rows of that value: a world of one,
 * which meets nobody. A task trains one after the other those whose rows it has.
 */
object FitEachJob {
  private val Key = "__flambeau_key"
  private val Order = "__flambeau_order"
  private val Indicator = "__flambeau_validates"

  /** Parts for each slot, so that slots with quick models take over from others. */
  private val PartsPerSlot = 4

  /**
   * What came of each value of column `by`, whose type is one of strings, whole numbers or booleans.
   *
   * @throws io.flambeau.FlambeauException the failure of one of them, which names its value
   */
  def run(data: Dataset[_], spec: FitSpec, by: String): Seq[(Any, FitResult)] = {
    val spark = data.sparkSession
    val sc = spark.sparkContext
    DriverCheck.fit(spec.columns, data.schema, parse(spec.training), spec.files.model, spec.files.weights)
    val keyType = data.schema(by).dataType
    val columns = spec.columns.names
    val selected = data.select(
      Columns.named(by).as(Key) +: (columns.map(Columns.named) ++
        Seq(validates(spec).as(Indicator), monotonically_increasing_id().as(Order))): _*)
    val grouped = selected
      .repartition(SparkInternals.slots(sc).max(1) * PartsPerSlot, Columns.named(Key))
      .sortWithinPartitions(Key, Order)
    val rows = SparkInternals.rows(grouped)
    val (whole, fed) = (grouped.schema, columns :+ Indicator)
    val model = sc.broadcast(spec.files.model)
    val weights = sc.broadcast(Option(spec.files.weights).getOrElse(Array.emptyByteArray))
    try {
      val run = UUID.randomUUID().toString
      val task = FitTask(
        ModelDirectory.Owner(run), spec.columns, spec.columns.of(whole), spec.training, spec.device,
        ClusterSettings.of(spark), None, spec.keepCheckpoints, None, JobSecret.create(), model, weights, new SerializableConfiguration(sc.hadoopConfiguration),
        sc.collectionAccumulator[String]("flambeau progress"))
      val mayValidate = spec.validation != Validation.NoRows
      val ended = TaskFailures.of(run, sc).watch(sc) {
        sc.runJob(rows, (own: Iterator[InternalRow]) => fitted(own, by, keyType, whole, fed, task, mayValidate))
      }
      for (part <- ended.toSeq; Seq(key, outcome) <- OutcomeBytes.parts(part).grouped(2)) yield {
        val value = read(key)
        OutcomeBytes.decode(outcome) match {
          case Trained(result) => value -> result
          case Failed(_, error) => throw error.inGroup(s"$by $value")
          case Followed => throw new IllegalStateException(s"$by $value: a fit of one rank followed another")
        }
      }
    } finally {
      model.destroy()
      weights.destroy()
    }
  }

  private def validates(spec: FitSpec): Column = spec.validation match {
    case Validation.Indicated(name) => Columns.named(name).cast(BooleanType)
    case Validation.Fraction(fraction) => rand(spec.seed) < fraction
    case Validation.NoRows | Validation.Rows(_) => lit(false)
  }

  /** Keys and outcomes in turn, up to the first failure, as bytes, which every serializer takes. */
  private def fitted(
      rows: Iterator[InternalRow],
      by: String,
      keyType: DataType,
      schema: StructType,
      fed: Seq[String],
      task: FitTask,
      mayValidate: Boolean): Array[Byte] = {
    val groups = new RowGroups(rows, CatalystTypeConverters.convertToScala(_, keyType), keyType)
    val project = SparkInternals.projection(schema, fed)
    var failed = false
    val outcomes = Seq.newBuilder[Array[Byte]]
    while (!failed && groups.hasNext) {
      val (key, own) = groups.next()
      if (key == null) throw new DataException(s"column '$by' holds a null, which names no model. Try: filter such rows")
      // A run of its own: nothing that one leaves is of use to another.
      val run = s"${task.owner.run}-${TaskContext.getPartitionId()}-${groups.index}"
      val outcome = task.copy(owner = ModelDirectory.Owner(run)).runAlone(new StreamedRows(own.map(project), mayValidate))
      failed = outcome.isInstanceOf[Failed]
      outcomes += written(key) += OutcomeBytes.encode(outcome)
    }
    OutcomeBytes.join(outcomes.result().iterator)
  }

  private def written(key: Any): Array[Byte] = {
    val bytes = new ByteArrayOutputStream
    Using.resource(new ObjectOutputStream(bytes))(_.writeObject(key))
    bytes.toByteArray
  }

  private def read(key: Array[Byte]): Any =
    Using.resource(new ObjectInputStream(new ByteArrayInputStream(key)))(_.readObject())

  /** @throws ConfigException unless `by` is a column whose values can name models */
  def checkKey(schema: StructType, by: String): Unit =
    schema.fields.find(_.name == by).map(_.dataType) match {
      case Some(StringType | ByteType | ShortType | IntegerType | LongType | BooleanType) =>
      case Some(other) =>
        throw new ConfigException(
          s"column '$by' has type ${other.sql}, whose values name no models. Try: a column of strings, whole numbers or booleans")
      case None => throw new ConfigException(s"'$by' is no column of the DataFrame; it has ${schema.fieldNames.mkString(", ")}")
    }
}
