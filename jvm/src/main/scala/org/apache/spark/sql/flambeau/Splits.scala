// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.annotation.tailrec
import scala.collection.mutable.ArrayBuffer
import scala.util.control.NonFatal

import org.apache.spark.{BarrierTaskContext, Dependency, NarrowDependency, Partition, SparkContext, TaskContext}
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.util.{TaskCompletionListener, TaskFailureListener}
import org.slf4j.LoggerFactory

/**
 * Some partitions of a plan's rows, which a task computes by itself, as often as it likes.
 *
 * @param rows free of shuffles, see [[Splits.isReadable]]
 */
final class Splits(rows: RDD[InternalRow], partitions: Seq[Partition]) {

  def size: Int = partitions.size

  /**
   * Computes partitions one after the other, in the given order of their indices, until `use` says
   * that it wants no more. What one has opened is closed before the next one.
   */
  def read(order: Seq[Int], context: TaskContext)(use: Iterator[InternalRow] => Boolean): Unit = {
    val own = new SplitContext(context)
    order.map(partitions(_)).iterator.map(split => own.during(use(rows.iterator(split, own)))).find(!_)
  }
}

object Splits {

  /**
   * Lets tasks read that are of no barrier stage: with the first such stage Spark makes what the
   * context of a barrier task refers to, and one is made for each partition.
   */
  def allowAnyTask(sc: SparkContext): Unit = sc.parallelize(Seq(0), 1).barrier().mapPartitions(rows => rows).count()

  /** The partitions that fall to `rank` when those of `rows` are dealt in turns. */
  def dealt(rows: RDD[_], ranks: Int, rank: Int): Seq[Partition] =
    rows.partitions.toSeq.zipWithIndex.collect { case (split, at) if at % ranks == rank => split }

  /**
   * Whether a task can compute partitions of `rows` by itself: they need nothing that another stage
   * makes first. What the executors need to know of the plan is found out by the way.
   */
  def isReadable(rows: RDD[_]): Boolean = {
    @tailrec def read(open: List[RDD[_]]): Boolean = open match {
      case Nil => true
      case head :: rest =>
        head.partitions
        val dependencies: Seq[Dependency[_]] = head.dependencies
        if (dependencies.forall(_.isInstanceOf[NarrowDependency[_]])) read(dependencies.map(_.rdd).toList ++ rest)
        else false
    }
    read(List(rows))
  }
}

/**
 * The context of a task, but with an end of its own for each partition that the task computes: what
 * readers leave to the end of the task would else pile up pass by pass. A barrier task's is the one
 * class of contexts that takes another one in.
 */
private final class SplitContext(task: TaskContext) extends BarrierTaskContext(task) {
  private val completions = ArrayBuffer.empty[TaskCompletionListener]

  override def addTaskCompletionListener(listener: TaskCompletionListener): this.type = synchronized {
    completions += listener
    this
  }

  /** Readers tell nobody but themselves of a failure: the task reports it. */
  override def addTaskFailureListener(listener: TaskFailureListener): this.type = this

  /** Computes a partition, with this as the context that its readers find. */
  def during[T](compute: => T): T = {
    TaskContext.setTaskContext(this)
    try compute
    finally {
      try complete()
      finally TaskContext.setTaskContext(task)
    }
  }

  private def complete(): Unit = {
    val ended = synchronized {
      val all = completions.toList
      completions.clear()
      all
    }
    // The last to be opened is the first to be closed, as in a task.
    ended.reverse.foreach { listener =>
      try listener.onTaskCompletion(this)
      catch { case NonFatal(error) => SplitContext.log.warn("a reader did not close", error) }
    }
  }
}

private object SplitContext {
  private val log = LoggerFactory.getLogger(classOf[SplitContext])
}
