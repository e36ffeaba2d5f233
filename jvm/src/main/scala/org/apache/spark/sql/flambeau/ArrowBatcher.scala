// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._

import org.apache.arrow.vector.{VectorSchemaRoot, VectorUnloader}
import org.apache.arrow.vector.compression.NoCompressionCodec
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.execution.arrow.ArrowWriter
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils

/**
 * One record batch as native code sees it.
 *
 * @param rows number of rows
 * @param nodes (length, null count) of each vector, depth first
 * @param buffers (address, byte length) of each buffer, depth first
 */
final case class ArrowBatch(rows: Int, nodes: Array[Long], buffers: Array[Long])

/**
 * Gathers rows into Arrow record batches of at most about 1024 rows and 4 MiB. The memory is
 * Netty's direct memory, which is limited: it holds one batch at a time, lent and taken back.
 */
final class ArrowBatcher(columns: StructType) extends AutoCloseable {
  import ArrowBatcher._

  private val allocator = ArrowUtils.rootAllocator.newChildAllocator("flambeau", 0, Long.MaxValue)
  private val root = VectorSchemaRoot.create(ArrowSchema.of(columns), allocator)
  private val writer = ArrowWriter.create(root)
  private var rows = 0
  private var limit = FirstBatchRows

  /** Adds a row, whose leading fields are the batcher's columns. */
  def add(row: InternalRow): Unit = {
    writer.write(row)
    rows += 1
  }

  def isFull: Boolean = rows >= limit

  def isEmpty: Boolean = rows == 0

  /** Lends the gathered rows to `use`, and starts again with none. The memory is only lent. */
  def lend[T](use: ArrowBatch => T): T = {
    writer.finish()
    val record = new VectorUnloader(root, true, NoCompressionCodec.INSTANCE, false).getRecordBatch
    try {
      val buffers = record.getBuffers.asScala
      limit = rowsWithin(buffers.map(_.readableBytes).sum / rows)
      use(ArrowBatch(
        rows,
        record.getNodes.asScala.flatMap(node => Seq(node.getLength.toLong, node.getNullCount.toLong)).toArray,
        buffers.flatMap(buffer => Seq(buffer.memoryAddress, buffer.readableBytes)).toArray))
    } finally {
      record.close()
      writer.reset()
      rows = 0
    }
  }

  /** Gives the memory back; Arrow throws if any of it is still in use. */
  override def close(): Unit = {
    root.close()
    allocator.close()
  }
}

object ArrowBatcher {
  private val MaxRows = 1024
  private val MaxBytes = 4L << 20

  /** Few enough for any row; its size says how many rows later batches may have. */
  private val FirstBatchRows = 16

  private def rowsWithin(bytesPerRow: Long): Int =
    (MaxBytes / bytesPerRow.max(1)).max(1).min(MaxRows).toInt
}
