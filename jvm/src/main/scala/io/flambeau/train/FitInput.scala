// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.rdd.RDD
import org.apache.spark.sql.{Column, DataFrame, Dataset, SparkSession}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{RowOrder, SparkInternals}
import org.apache.spark.sql.functions.{hash, lit, monotonically_increasing_id, rand, xxhash64}
import org.apache.spark.sql.types.{BooleanType, StructType}
import org.slf4j.LoggerFactory

import io.flambeau.DataException
import io.flambeau.jni.Columns

/**
 * The rows of a fit, one partition for each rank, the same rows in the same order in every attempt.
 *
 * @param rows the session's columns, then a boolean that is true for validation rows
 * @param schema the session's columns
 */
private[train] final case class FitInput(rows: RDD[InternalRow], schema: StructType)

private[train] object FitInput {
  private val log = LoggerFactory.getLogger(classOf[FitInput])
  private val Indicator = "__flambeau_validates"
  private val Order = "__flambeau_order"

  /**
   * Plans `data` once. Adaptive execution runs the shuffles before its last stage to do that; what
   * follows here goes on from their results.
   *
   * @throws DataException if Spark knows without a job that there are no rows
   */
  def of(data: Dataset[_], spec: FitSpec): FitInput = {
    val columns = columnsOf(spec)
    val selected = spec.validation match {
      case Validation.Rows(held) => marked(data, columns, lit(false)).union(marked(held, columns, lit(true)))
      case known => data.select(columns ++ knownIndicator(known): _*)
    }
    val planned = Planned(SparkInternals.rows(selected), selected.schema, data.sparkSession)
    if (planned.rows.getNumPartitions == 0) throw new DataException("the training data has no rows")
    val rows = withIndicator(ordered(planned, selected, spec), columns, spec)
    FitInput(spec.mesh.spread(partitioned(rows, spec.replicas).rows), spec.columns.of(selected.schema))
  }

  /** The rows of `data`, which all validate: a partition for each rank, as those of a fit. */
  def held(data: Dataset[_], spec: FitSpec): RDD[InternalRow] = {
    val selected = marked(data, columnsOf(spec), lit(true))
    val planned = Planned(SparkInternals.rows(selected), selected.schema, data.sparkSession)
    spec.mesh.spread(partitioned(ordered(planned, selected, spec), spec.replicas).rows)
  }

  /** Rows of a plan that is decided: the session's columns, and what is known of validation. */
  private final case class Planned(rows: RDD[InternalRow], schema: StructType, spark: SparkSession) {

    def transform(further: DataFrame => DataFrame): Planned = {
      val frame = further(SparkInternals.frame(spark, rows, schema))
      Planned(SparkInternals.rows(frame), frame.schema, spark)
    }
  }

  /**
   * Where epochs are shuffled, in an order that does not depend on which blocks of a shuffle of Spark
   * arrive first: by a hash of the whole row, so that only equal rows may change places. Where they
   * are not, the order is what the user made it.
   */
  private def ordered(planned: Planned, selected: DataFrame, spec: FitSpec): Planned = {
    val order = RowOrder.of(planned.rows)
    if (order == RowOrder.Random) {
      log.warn(
        "the training rows may be others when Spark computes them again, as it does after the loss of an executor: " +
          "they come from an operation whose result depends on the order in which rows arrive. Try: write them to a " +
          "table, or data.checkpoint(), and train on that")
    }
    if (order == RowOrder.Fixed) planned
    else if (spec.shuffle) {
      val all = planned.schema.fieldNames.toSeq.map(Columns.named)
      planned.transform(_.sortWithinPartitions(xxhash64(all: _*), hash(all: _*)))
    } else {
      if (!RowOrder.isSorted(selected)) {
        log.warn(
          "shuffle is off and nothing sorts the training rows after they were exchanged between executors: they train " +
            "in the order in which they arrive, which may be another one next time. Try: sort them, or set shuffle")
      }
      planned
    }
  }

  /** What says whether a row only validates, where that does not depend on its place. */
  private def knownIndicator(validation: Validation): Option[Column] = validation match {
    case Validation.NoRows => Some(lit(false).as(Indicator))
    case Validation.Indicated(name) => Some(Columns.named(name).cast(BooleanType).as(Indicator))
    case Validation.Fraction(_) | Validation.Rows(_) => None
  }

  /** The session's columns of `data`, then what says whether a row only validates. */
  private[train] def marked(data: Dataset[_], columns: Seq[Column], validates: Column): DataFrame =
    data.select(columns :+ validates.as(Indicator): _*)

  private[train] def columnsOf(spec: FitSpec): Seq[Column] = spec.columns.names.map(Columns.named)

  private def withIndicator(planned: Planned, columns: Seq[Column], spec: FitSpec): Planned = spec.validation match {
    case Validation.Fraction(fraction) =>
      planned.transform(_.select(columns :+ (rand(spec.seed) < fraction).as(Indicator): _*))
    case Validation.NoRows | Validation.Indicated(_) | Validation.Rows(_) => planned
  }

  /** As they are where Spark allows that; else dealt out evenly. */
  private def partitioned(planned: Planned, ranks: Int): Planned =
    if (planned.rows.getNumPartitions == ranks && SparkInternals.fitsBarrierStage(planned.rows, ranks)) planned
    else {
      planned.transform(
        _.withColumn(Order, monotonically_increasing_id())
          .repartition(ranks)
          .sortWithinPartitions(Order)
          .drop(Order))
    }

}
