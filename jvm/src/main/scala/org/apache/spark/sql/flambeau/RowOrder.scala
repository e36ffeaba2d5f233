// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.rdd.{DeterministicLevel, RDD}
import org.apache.spark.sql.{classic, Column, DataFrame}
import org.apache.spark.sql.catalyst.expressions.{Ascending, NullsFirst}
import org.apache.spark.sql.classic.ExpressionUtils
import org.apache.spark.sql.execution.adaptive.AdaptiveSparkPlanExec

/** What Spark promises of an RDD's rows when it computes a partition again. */
sealed trait RowOrder

object RowOrder {

  /** The same rows in the same order. */
  case object Fixed extends RowOrder

  /** The same rows, in the order in which blocks arrive from other executors. */
  case object Arrival extends RowOrder

  /** Maybe other rows. */
  case object Random extends RowOrder

  def of(rows: RDD[_]): RowOrder = rows.outputDeterministicLevel match {
    case DeterministicLevel.DETERMINATE => Fixed
    case DeterministicLevel.UNORDERED => Arrival
    case _ => Random
  }
}

/**
 * One of the values that a plan sorts the rows of each partition by.
 *
 * @param value of a row of the frame
 */
final case class SortKey(value: Column, ascending: Boolean, nullsFirst: Boolean) {

  /** Sorts by `column`, which holds the values, as the plan does. */
  def sorting(column: Column): Column = (ascending, nullsFirst) match {
    case (true, true) => column.asc_nulls_first
    case (true, false) => column.asc_nulls_last
    case (false, true) => column.desc_nulls_first
    case (false, false) => column.desc_nulls_last
  }
}

object SortKey {

  /** What the plan of `data` sorts by, if it sorts; not what it has computed from columns that are gone. */
  def of(data: DataFrame): Seq[SortKey] = {
    val plan = data.asInstanceOf[classic.Dataset[_]].queryExecution.executedPlan match {
      case adaptive: AdaptiveSparkPlanExec => adaptive.initialPlan
      case other => other
    }
    plan.outputOrdering.takeWhile(_.references.subsetOf(plan.outputSet)).map { order =>
      SortKey(ExpressionUtils.column(order.child), order.direction == Ascending, order.nullOrdering == NullsFirst)
    }
  }
}
