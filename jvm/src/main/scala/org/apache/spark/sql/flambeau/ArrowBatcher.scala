// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{BoundReference, UnsafeProjection, UnsafeRow}
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.unsafe.bitset.BitSetMethods

/**
 * One record batch as native code sees it.
 *
 * @param rows number of rows
 * @param nodes (length, null count) of each vector, depth first
 * @param buffers (address, byte length) of each buffer, depth first
 */
final case class ArrowBatch(rows: Int, nodes: Array[Long], buffers: Array[Long])

/**
 * Gathers rows into Arrow record batches: as many as fit half a core's second-level cache, but at
 * most 1024. The memory is Netty's direct memory, which is limited: it holds one batch at a time,
 * lent and taken back.
 */
final class ArrowBatcher(columns: StructType) extends AutoCloseable {
  import ArrowBatcher._

  // A type that cannot cross is refused here.
  ArrowSchema.of(columns)

  private val allocator = ArrowUtils.rootAllocator.newChildAllocator("flambeau", 0, Long.MaxValue)
  private val parts = RowPart.of(columns, allocator)
  private var rows = 0
  private var bytes = 0L

  /** Of rows that are not in Spark's binary form. */
  private lazy val project = UnsafeProjection.create(columns.fields.toSeq.zipWithIndex.map { case (field, at) =>
    BoundReference(at, field.dataType, field.nullable)
  })

  /** Adds a row, whose leading fields are the batcher's columns. */
  def add(row: InternalRow): Unit = {
    val binary = row match {
      case unsafe: UnsafeRow => unsafe
      case other => project(other)
    }
    val (base, origin) = (binary.getBaseObject, binary.getBaseOffset)
    val bitmapBytes = UnsafeRow.calculateBitSetWidthInBytes(binary.numFields)
    val nulls = BitSetMethods.anySet(base, origin, bitmapBytes / 8)
    var at = 0
    while (at < parts.length) {
      parts(at).add(base, origin, origin + bitmapBytes, nulls)
      at += 1
    }
    rows += 1
    bytes += binary.getSizeInBytes
  }

  def isFull: Boolean = rows >= MaxRows || bytes >= MaxBytes

  def isEmpty: Boolean = rows == 0

  /** Lends the gathered rows to `use`, and starts again with none. The memory is only lent. */
  def lend[T](use: ArrowBatch => T): T = {
    val (nodes, buffers) = (new LongSink, new LongSink)
    parts.foreach(_.show(nodes, buffers))
    try use(ArrowBatch(rows, nodes.result, buffers.result))
    finally {
      parts.foreach(_.clear())
      rows = 0
      bytes = 0
    }
  }

  /** Gives the memory back. */
  override def close(): Unit = {
    parts.foreach(_.close())
    allocator.close()
  }
}

object ArrowBatcher {
  private val MaxRows = 1024
  private val MaxBytes = 512L << 10
}
