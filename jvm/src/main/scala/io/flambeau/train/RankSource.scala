// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import scala.util.Random

import org.apache.spark.TaskContext
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.Splits

/**
 * What the rows of one rank come from. Each row has the session's columns and one field more, which
 * is true if it only validates.
 */
private[train] sealed trait RankSource extends Serializable

/** No rows: of a rank that holds weights. */
private[train] case object NoRows extends RankSource

/**
 * The rows of a partition, which come once.
 *
 * @param validates whether those to validate with are among them, rather than none
 */
private[train] final class StreamedRows(val rows: Iterator[InternalRow], val validates: Boolean) extends RankSource

/**
 * The rank's part of a plan, which it reads by itself in every pass over the data.
 *
 * @param held rows that validate, which come once, before all others
 * @param seed of the order of partitions, another one in each pass; in their own order without it
 * @param validatesAmong whether rows that validate are among those of `training`, too
 */
private[train] final class ReadRows(
    training: Splits,
    held: Option[Iterator[InternalRow]],
    seed: Option[Long],
    validatesAmong: Boolean)
    extends RankSource {
  private val validates: InternalRow => Boolean = row => row.getBoolean(row.numFields - 1)
  private val inOrder: Seq[Int] = 0 until training.size

  /** Gives the rows to validate with to `use`, part by part, until it wants no more. */
  def readValidation(context: TaskContext)(use: Iterator[InternalRow] => Boolean): Unit = {
    val more = held.forall(use)
    if (more && validatesAmong) training.read(inOrder, context)(rows => use(rows.filter(validates)))
  }

  /** Gives the rows to train on to `use`, part by part, until it wants no more. */
  def readPass(pass: Int, context: TaskContext)(use: Iterator[InternalRow] => Boolean): Unit = {
    val order = seed.fold(inOrder) { seed =>
      // Neighbouring seeds give Random alike beginnings.
      new Random((seed * 31 + pass) * 1000003 + context.partitionId()).shuffle(inOrder)
    }
    training.read(order, context)(rows => use(rows.filterNot(validates)))
  }
}
