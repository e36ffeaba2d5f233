// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.vectorized.ColumnVector

/**
 * Shows record batches of native memory to Spark as column vectors, one batch at a time and without
 * a copy. A batch's memory is given back when the last of its vectors is closed, by whomever.
 */
final class LentColumns(columns: StructType) extends AutoCloseable {
  private val vectors = columns.fields.map(field => LentVector.of(field.dataType))
  private var open = 0
  private var giveBack: () => Unit = _

  /**
   * The columns of `batch`, valid until the next call of this, `clear` or `close`.
   *
   * @param release gives the batch's memory back; called once, maybe before this returns
   */
  def load(batch: ArrowBatch)(release: () => Unit): Array[ColumnVector] = {
    clear()
    val place = new BatchPlace(batch)
    vectors.foreach(_.lend(place, closed))
    open = vectors.length
    giveBack = release
    if (open == 0) release()
    vectors.toArray[ColumnVector]
  }

  /** Closes the vectors of the last batch. */
  def clear(): Unit = vectors.foreach(_.close())

  /** Closes the last batch too. */
  override def close(): Unit = clear()

  private val closed: () => Unit = () => {
    open -= 1
    if (open == 0) giveBack()
  }
}

/** How far the pairs of a batch have been read. */
private[flambeau] final class BatchPlace(batch: ArrowBatch) {
  private var nodes = 0
  private var buffers = 0

  /** The null count of the next vector. */
  def nullCount(): Long = {
    nodes += 2
    batch.nodes(nodes - 1)
  }

  /** The address of the next buffer. */
  def address(): Long = {
    buffers += 2
    batch.buffers(buffers - 2)
  }
}
