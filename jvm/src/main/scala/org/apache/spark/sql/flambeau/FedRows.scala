// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.sql.classic
import org.apache.spark.sql.catalyst.expressions.Attribute
import org.apache.spark.sql.catalyst.plans.logical.{LogicalPlan, UnaryNode}
import org.apache.spark.sql.catalyst.rules.Rule

/**
 * The same rows, marked as those that Flambeau takes. The optimizer chooses how the files below are
 * read and takes the mark away: by then Spark has put in what of them is cached.
 */
private[flambeau] final case class FedRows(child: LogicalPlan) extends UnaryNode {
  override def output: Seq[Attribute] = child.output

  override protected def withNewChildInternal(newChild: LogicalPlan): FedRows = copy(child = newChild)
}

private[flambeau] object FedRows {

  def of(frame: classic.DataFrame): FedRows = {
    val experimental = frame.sparkSession.experimental
    val rules = experimental.extraOptimizations
    if (!rules.contains(Readers)) experimental.extraOptimizations = rules :+ Readers
    FedRows(frame.queryExecution.analyzed)
  }

  private object Readers extends Rule[LogicalPlan] {
    override def apply(plan: LogicalPlan): LogicalPlan = plan.transformUp { case FedRows(child) =>
      PlainCsvFormat.in(child)
    }
  }
}
