// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.arrow.memory.BufferAllocator
import org.apache.spark.sql.types.StructType
import org.apache.spark.unsafe.bitset.BitSetMethods

/** What of each row becomes one Arrow column: a field, or numbers that are stacked. */
private[flambeau] sealed trait RowPart extends AutoCloseable {

  /**
   * Adds a row's part.
   *
   * @param origin where the row begins in `base`
   * @param slots where the slots of its fields begin
   * @param nulls whether any field of the row is null
   */
  def add(base: AnyRef, origin: Long, slots: Long, nulls: Boolean): Unit

  /** Likewise [[ColumnWriter.show]]. */
  def show(nodes: LongSink, buffers: LongSink): Unit

  /** Forgets the rows, but keeps the memory. */
  def clear(): Unit
}

private[flambeau] object RowPart {

  def of(columns: StructType, allocator: BufferAllocator): Array[RowPart] = {
    val parts = StackedColumns.parts(columns)
    val firsts = parts.scanLeft(0)(_ + _.length)
    parts.zip(firsts).map { case (fields, first) =>
      val dataType = fields.head.dataType
      if (fields.length == 1) new FieldPart(first, ColumnWriter.of(dataType, allocator))
      else new StackPart(first, fields.length, new FixedWidthWriter(dataType.defaultSize, allocator))
    }.toArray
  }
}

private final class FieldPart(field: Int, column: ColumnWriter) extends RowPart {

  override def add(base: AnyRef, origin: Long, slots: Long, nulls: Boolean): Unit =
    if (nulls && BitSetMethods.isSet(base, origin, field)) column.writeNull()
    else column.write(base, origin, slots + field * 8L)

  override def show(nodes: LongSink, buffers: LongSink): Unit = column.show(nodes, buffers)
  override def clear(): Unit = column.clear()
  override def close(): Unit = column.close()
}

/** A list of `width` elements in each row, which may be null while the list is not. */
private final class StackPart(first: Int, width: Int, elements: FixedWidthWriter) extends RowPart {
  private var rows = 0L

  override def add(base: AnyRef, origin: Long, slots: Long, nulls: Boolean): Unit = {
    rows += 1
    if (nulls) {
      var field = first
      while (field < first + width) {
        if (BitSetMethods.isSet(base, origin, field)) elements.writeNull()
        else elements.write(base, origin, slots + field * 8L)
        field += 1
      }
    } else elements.writeFields(base, slots + first * 8L, width)
  }

  override def show(nodes: LongSink, buffers: LongSink): Unit = {
    nodes.add(rows, 0)
    buffers.add(0, 0)
    elements.show(nodes, buffers)
  }

  override def clear(): Unit = {
    rows = 0
    elements.clear()
  }

  override def close(): Unit = elements.close()
}
