// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.rdd.RDD
import org.apache.spark.sql.{classic, DataFrame}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions._
import org.apache.spark.sql.catalyst.plans.logical.{LogicalPlan, Project, UnaryNode}
import org.apache.spark.sql.catalyst.plans.physical.Partitioning
import org.apache.spark.sql.execution.{SparkPlan, SparkStrategy, UnaryExecNode}
import org.apache.spark.sql.types.StructType

/**
 * A plan's rows with further columns behind their own, which a function of whole partitions adds. A
 * node of the plan as any other, so that it may stand in a stream, too.
 *
 * @param work what is done, for those who read the plan
 */
final case class MapRows(
    work: String,
    map: Iterator[InternalRow] => Iterator[InternalRow],
    added: Seq[Attribute],
    child: LogicalPlan)
    extends UnaryNode {
  override def output: Seq[Attribute] = child.output ++ added

  /** The function counts on every column, whether somebody wants it or not. */
  override lazy val references: AttributeSet = child.outputSet

  override def producedAttributes: AttributeSet = AttributeSet(added)

  override protected def withNewChildInternal(newChild: LogicalPlan): MapRows = copy(child = newChild)
}

object MapRows {

  /**
   * `data` with the rows of every partition mapped by `map`.
   *
   * @param schema that of `data`, and the added columns behind it
   */
  def apply(data: DataFrame, schema: StructType, work: String)(
      map: Iterator[InternalRow] => Iterator[InternalRow]): DataFrame = {
    val frame = SparkInternals.classicOf(data)
    val session = frame.sparkSession
    val strategies = session.experimental.extraStrategies
    if (!strategies.contains(Strategy)) session.experimental.extraStrategies = strategies :+ Strategy
    val added = schema.drop(data.schema.length).map { field =>
      AttributeReference(field.name, field.dataType, field.nullable, field.metadata)()
    }
    val mapped = MapRows(work, map, added, FedRows.of(frame))
    // Spark gives new ids to the columns of a frame that is joined with itself where it finds aliases.
    val renamed = added.map(attribute => Alias(attribute, attribute.name)(explicitMetadata = Some(attribute.metadata)))
    classic.Dataset.ofRows(session, Project(mapped.child.output ++ renamed, mapped))
  }

  private object Strategy extends SparkStrategy {
    override def apply(plan: LogicalPlan): Seq[SparkPlan] = plan match {
      case MapRows(work, map, added, child) => MapRowsExec(work, map, added, planLater(child)) :: Nil
      case _ => Nil
    }
  }
}

private final case class MapRowsExec(
    work: String,
    map: Iterator[InternalRow] => Iterator[InternalRow],
    added: Seq[Attribute],
    child: SparkPlan)
    extends UnaryExecNode {
  override def output: Seq[Attribute] = child.output ++ added

  override def producedAttributes: AttributeSet = AttributeSet(added)

  override def nodeName: String = work

  override def outputPartitioning: Partitioning = child.outputPartitioning

  override def outputOrdering: Seq[SortOrder] = child.outputOrdering

  override protected def doExecute(): RDD[InternalRow] = {
    val (map, columns) = (this.map, output)
    child.execute().mapPartitionsWithIndex { (index, rows) =>
      val unsafe = UnsafeProjection.create(columns, columns)
      unsafe.initialize(index)
      map(rows).map(unsafe)
    }
  }

  override protected def withNewChildInternal(newChild: SparkPlan): MapRowsExec = copy(child = newChild)
}
