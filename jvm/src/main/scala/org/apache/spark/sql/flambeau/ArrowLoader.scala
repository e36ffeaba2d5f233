// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.util.concurrent.atomic.AtomicInteger

import scala.jdk.CollectionConverters._

import org.apache.arrow.memory.{ArrowBuf, ForeignAllocation}
import org.apache.arrow.vector.{VectorLoader, VectorSchemaRoot}
import org.apache.arrow.vector.compression.NoCompressionCodec
import org.apache.arrow.vector.ipc.message.{ArrowFieldNode, ArrowRecordBatch}
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.sql.vectorized.{ArrowColumnVector, ColumnVector}

/**
 * Shows record batches of native memory to Spark as column vectors, one batch at a time and without
 * a copy. A batch's memory is given back when the last of its vectors is closed, by whomever.
 */
final class ArrowLoader(columns: StructType) extends AutoCloseable {
  private val allocator = ArrowUtils.rootAllocator.newChildAllocator("flambeau", 0, Long.MaxValue)
  private val root = VectorSchemaRoot.create(ArrowSchema.of(columns), allocator)
  private val loader = new VectorLoader(root, NoCompressionCodec.Factory.INSTANCE)

  /**
   * The columns of `batch`, valid until the next call of this, `clear` or `close`.
   *
   * @param release gives the batch's memory back; called once, maybe before this returns
   */
  def load(batch: ArrowBatch)(release: () => Unit): Array[ColumnVector] = {
    clear()
    val nodes = batch.nodes.grouped(2).map(node => new ArrowFieldNode(node(0), node(1)))
    val buffers = lent(batch, release)
    // The record takes over this reference to each buffer, rather than adding one.
    val record = new ArrowRecordBatch(
      batch.rows, nodes.toSeq.asJava, buffers.asJava, NoCompressionCodec.DEFAULT_BODY_COMPRESSION, true, false)
    try loader.load(record)
    finally record.close()
    root.getFieldVectors.asScala.map(new ArrowColumnVector(_): ColumnVector).toArray
  }

  /** Closes the vectors of the last batch. */
  def clear(): Unit = root.clear()

  /** Closes the last batch too; Arrow throws if anybody has kept a buffer of one. */
  override def close(): Unit = {
    root.close()
    allocator.close()
  }

  /** The batch's buffers, of which the last to be released calls `release`. */
  private def lent(batch: ArrowBatch, release: () => Unit): Seq[ArrowBuf] = {
    val spans = batch.buffers.grouped(2).map(span => (span(0), span(1))).toSeq
    val open = new AtomicInteger(spans.count { case (_, length) => length > 0 })
    if (open.get == 0) release()
    spans.map { case (address, length) =>
      if (length == 0) allocator.getEmpty
      else {
        allocator.wrapForeignAllocation(new ForeignAllocation(length, address) {
          override protected def release0(): Unit = if (open.decrementAndGet() == 0) release()
        })
      }
    }
  }
}
