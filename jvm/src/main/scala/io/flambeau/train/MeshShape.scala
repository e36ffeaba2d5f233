// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.Partitioner
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.catalyst.InternalRow

import io.flambeau.ConfigException

/**
 * How the ranks of a fit share its model: `stages` x `parts` of them hold one replica. Ranks count parts
 * first, then stages, then replicas.
 */
final case class MeshShape(stages: Int, parts: Int) {

  /** Ranks of a replica. */
  def size: Int = stages * parts

  /**
   * How many of them there are among `workers`.
   *
   * @throws ConfigException if they leave a replica incomplete
   */
  def replicas(workers: Int): Int = {
    if (workers % size != 0) {
      throw new ConfigException(
        s"numWorkers is $workers, but a replica of the model takes $size workers (pipelineStages $stages x " +
          s"tensorParallel $parts). Try: a multiple of $size")
    }
    workers / size
  }

  /** Whether `rank` is the one of its replica that has the rows. */
  def hasRows(rank: Int): Boolean = rank % size == 0

  /** The replica of `rank`. */
  def replica(rank: Int): Int = rank / size

  /**
   * The rows of each replica with the first of its ranks, in their order, and none with the others. Spark's
   * barrier stages take no partitions but those of a shuffle, where their number changes.
   */
  private[train] def spread(rows: RDD[InternalRow]): RDD[InternalRow] =
    if (size == 1) rows
    else {
      val first = size
      val numbered = rows.mapPartitionsWithIndex((replica, own) => own.map(row => (replica * first, row.copy())))
      numbered.partitionBy(new ByRank(rows.getNumPartitions * first)).values
    }
}

object MeshShape {

  /** Each rank has the whole model. */
  val Whole: MeshShape = MeshShape(1, 1)
}

/** Pairs whose keys are ranks. */
private final class ByRank(ranks: Int) extends Partitioner {
  override def numPartitions: Int = ranks
  override def getPartition(key: Any): Int = key.asInstanceOf[Int]
  override def equals(other: Any): Boolean = other match {
    case same: ByRank => same.numPartitions == ranks
    case _ => false
  }
  override def hashCode: Int = ranks
}
