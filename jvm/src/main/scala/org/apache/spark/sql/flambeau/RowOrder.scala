// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.rdd.{DeterministicLevel, RDD}
import org.apache.spark.sql.{classic, DataFrame}
import org.apache.spark.sql.execution.{SortExec, SparkPlan, TakeOrderedAndProjectExec}
import org.apache.spark.sql.execution.adaptive.AdaptiveSparkPlanExec
import org.apache.spark.sql.execution.columnar.InMemoryTableScanExec

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

  /** Whether the plan of `data` sorts rows anywhere, also in what it has cached. */
  def isSorted(data: DataFrame): Boolean = sorts(data.asInstanceOf[classic.Dataset[_]].queryExecution.executedPlan)

  private def sorts(plan: SparkPlan): Boolean = plan.exists {
    case _: SortExec | _: TakeOrderedAndProjectExec => true
    case adaptive: AdaptiveSparkPlanExec => sorts(adaptive.initialPlan)
    case scan: InMemoryTableScanExec => sorts(scan.relation.cachedPlan)
    case _ => false
  }
}
