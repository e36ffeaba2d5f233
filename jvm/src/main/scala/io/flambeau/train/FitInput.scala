// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.rdd.RDD
import org.apache.spark.sql.{Column, DataFrame, Dataset}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.SparkInternals
import org.apache.spark.sql.functions.{col, lit, monotonically_increasing_id, rand}
import org.apache.spark.sql.types.{BooleanType, StructType}

import io.flambeau.DataException

/**
 * The rows of a fit, one partition for each rank.
 *
 * @param rows the session's columns, then a boolean that is true for validation rows
 * @param schema the session's columns
 */
private[train] final case class FitInput(rows: RDD[InternalRow], schema: StructType)

private[train] object FitInput {
  private val Indicator = "__flambeau_validates"
  private val Order = "__flambeau_order"

  /** @throws DataException if Spark knows without a job that there are no rows */
  def of(data: Dataset[_], spec: FitSpec): FitInput = {
    val selected = data.select(spec.columns.names.map(quoted) :+ indicator(spec).as(Indicator): _*)
    val rows = partitioned(selected, spec.numWorkers)
    if (rows.getNumPartitions == 0) throw new DataException("the training data has no rows")
    FitInput(rows, spec.columns.of(selected.schema))
  }

  private def indicator(spec: FitSpec): Column = spec.validation match {
    case Validation.NoRows => lit(false)
    case Validation.Indicated(name) => quoted(name).cast(BooleanType)
    case Validation.Fraction(fraction) => rand(spec.seed) < fraction
  }

  /** As it is where Spark allows that; else dealt out evenly, in an order that a retry repeats. */
  private def partitioned(selected: DataFrame, ranks: Int): RDD[InternalRow] = {
    val asItIs = SparkInternals.rows(selected)
    if (asItIs.getNumPartitions == ranks && SparkInternals.fitsBarrierStage(asItIs, ranks)) asItIs
    else {
      SparkInternals.rows(
        selected
          .withColumn(Order, monotonically_increasing_id())
          .repartition(ranks)
          .sortWithinPartitions(Order)
          .drop(Order))
    }
  }

  private def quoted(name: String): Column = col("`" + name.replace("`", "``") + "`")
}
