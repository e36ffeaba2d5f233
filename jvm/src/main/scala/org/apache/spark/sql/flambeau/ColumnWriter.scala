// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.arrow.memory.BufferAllocator
import org.apache.spark.sql.catalyst.expressions.{UnsafeArrayData, UnsafeRow}
import org.apache.spark.sql.types._
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.bitset.BitSetMethods

/**
 * One Arrow column while values are added, straight from the memory of Spark's rows and arrays
 * (`UnsafeRow`, `UnsafeArrayData`). There a value has a slot: it holds the value itself if that is
 * of fixed width, else its offset from the row's or array's first byte (upper half) and its size
 * (lower half). A place is a base object and an offset in it, as `Platform` takes them.
 */
private[flambeau] sealed abstract class ColumnWriter(allocator: BufferAllocator) extends AutoCloseable {
  private val validity = new ArrowBits(allocator, background = true)
  private var count = 0L

  /** Bytes of a value's slot in an array; in a row it is 8. */
  def slotBytes: Int = 8

  /** Adds the value whose slot is at `slot`, of the row or array that begins at `origin`. */
  final def write(base: AnyRef, origin: Long, slot: Long): Unit = {
    added(1)
    append(base, origin, slot)
  }

  final def writeNull(): Unit = {
    count += 1
    validity.appendException()
    appendNothing()
  }

  /** Adds the elements of the array that begins at `array`. */
  final def writeElements(base: AnyRef, array: Long, elements: Int): Unit = {
    val slots = array + UnsafeArrayData.calculateHeaderPortionInBytes(elements)
    val nulls = array + 8
    if (BitSetMethods.anySet(base, nulls, (slots - nulls) / 8)) {
      var at = 0
      while (at < elements) {
        if (BitSetMethods.isSet(base, nulls, at)) writeNull()
        else write(base, array, slots + at.toLong * slotBytes)
        at += 1
      }
    } else {
      added(elements)
      appendAll(base, array, slots, elements)
    }
  }

  /** Appends (length, null count) of the column and those inside it, and (address, bytes) of their buffers. */
  final def show(nodes: LongSink, buffers: LongSink): Unit = {
    nodes.add(count, validity.exceptions)
    // Without nulls there is no bitmap.
    if (validity.exceptions == 0) buffers.add(0, 0) else buffers.add(validity.filled())
    showValues(nodes, buffers)
  }

  /** Forgets the values, but keeps the memory. */
  final def clear(): Unit = {
    validity.clear()
    count = 0
    clearValues()
  }

  final override def close(): Unit = {
    validity.close()
    closeValues()
  }

  /** Counts values that `append` or `appendAll` add. */
  protected final def added(values: Int): Unit = {
    count += values
    validity.append(values)
  }

  protected def append(base: AnyRef, origin: Long, slot: Long): Unit

  /** What lies under a null. */
  protected def appendNothing(): Unit

  /** Appends the values of `number` slots side by side, of which none is null. */
  protected def appendAll(base: AnyRef, origin: Long, slots: Long, number: Int): Unit = {
    var at = 0
    while (at < number) {
      append(base, origin, slots + at.toLong * slotBytes)
      at += 1
    }
  }

  protected def showValues(nodes: LongSink, buffers: LongSink): Unit
  protected def clearValues(): Unit
  protected def closeValues(): Unit
}

private[flambeau] object ColumnWriter {

  /** Of a type that [[ArrowSchema]] has found an Arrow type for. */
  def of(dataType: DataType, allocator: BufferAllocator): ColumnWriter = dataType match {
    case BooleanType => new BooleanWriter(allocator)
    case BinaryType | _: StringType => new BytesWriter(allocator)
    case ArrayType(element, _) => new ListWriter(of(element, allocator), allocator)
    case StructType(fields) => new StructWriter(fields.map(field => of(field.dataType, allocator)), allocator)
    case decimal: DecimalType => new DecimalWriter(decimal.precision <= Decimal.MAX_LONG_DIGITS, allocator)
    case own: UserDefinedType[_] => of(own.sqlType, allocator)
    case number => new FixedWidthWriter(number.defaultSize, allocator)
  }
}

/** Numbers of `width` bytes. */
private[flambeau] final class FixedWidthWriter(width: Int, allocator: BufferAllocator) extends ColumnWriter(allocator) {
  private val values = new ArrowMemory(allocator)

  override def slotBytes: Int = width

  /** Adds the values of the slots of `number` fields of a row side by side, of which none is null. */
  def writeFields(base: AnyRef, slots: Long, number: Int): Unit = {
    added(number)
    val to = values.append(number.toLong * width)
    if (width == 8) Platform.copyMemory(base, slots, null, to, number * 8L)
    else if (width == 4) {
      var at = 0
      while (at < number) {
        Platform.putInt(null, to + at * 4L, Platform.getInt(base, slots + at * 8L))
        at += 1
      }
    } else {
      var at = 0
      while (at < number) {
        copy(base, slots + at * 8L, to + at.toLong * width)
        at += 1
      }
    }
  }

  override protected def append(base: AnyRef, origin: Long, slot: Long): Unit = copy(base, slot, values.append(width))

  override protected def appendNothing(): Unit = Platform.setMemory(values.append(width), 0, width)

  override protected def appendAll(base: AnyRef, origin: Long, slots: Long, number: Int): Unit = {
    val bytes = number.toLong * width
    Platform.copyMemory(base, slots, null, values.append(bytes), bytes)
  }

  override protected def showValues(nodes: LongSink, buffers: LongSink): Unit = buffers.add(values)
  override protected def clearValues(): Unit = values.clear()
  override protected def closeValues(): Unit = values.close()

  private def copy(base: AnyRef, from: Long, to: Long): Unit = width match {
    case 8 => Platform.putLong(null, to, Platform.getLong(base, from))
    case 4 => Platform.putInt(null, to, Platform.getInt(base, from))
    case 2 => Platform.putShort(null, to, Platform.getShort(base, from))
    case _ => Platform.putByte(null, to, Platform.getByte(base, from))
  }
}

/**
 * Decimals: their unscaled values in 128 bits.
 *
 * @param small whether those are in the slots, as 64 bits; else a slot has the place of bytes, the highest first
 */
private final class DecimalWriter(small: Boolean, allocator: BufferAllocator) extends ColumnWriter(allocator) {
  private val values = new ArrowMemory(allocator)

  override protected def append(base: AnyRef, origin: Long, slot: Long): Unit = {
    val word = Platform.getLong(base, slot)
    val to = values.append(DecimalWriter.Bytes)
    if (small) {
      Platform.putLong(null, to, word)
      Platform.putLong(null, to + 8, word >> 63)
    } else {
      val size = word.toInt
      val first = origin + (word >>> 32)
      Platform.setMemory(to, (Platform.getByte(base, first) >> 7).toByte, DecimalWriter.Bytes)
      var at = 0
      while (at < size) {
        Platform.putByte(null, to + at, Platform.getByte(base, first + size - 1 - at))
        at += 1
      }
    }
  }

  override protected def appendNothing(): Unit =
    Platform.setMemory(values.append(DecimalWriter.Bytes), 0, DecimalWriter.Bytes)

  override protected def showValues(nodes: LongSink, buffers: LongSink): Unit = buffers.add(values)
  override protected def clearValues(): Unit = values.clear()
  override protected def closeValues(): Unit = values.close()
}

private object DecimalWriter {
  val Bytes = 16L
}

private final class BooleanWriter(allocator: BufferAllocator) extends ColumnWriter(allocator) {
  private val values = new ArrowBits(allocator, background = false)

  override def slotBytes: Int = 1

  override protected def append(base: AnyRef, origin: Long, slot: Long): Unit =
    if (Platform.getBoolean(base, slot)) values.appendException() else values.append(1)

  override protected def appendNothing(): Unit = values.append(1)
  override protected def showValues(nodes: LongSink, buffers: LongSink): Unit = buffers.add(values.filled())
  override protected def clearValues(): Unit = values.clear()
  override protected def closeValues(): Unit = values.close()
}

/** Where each value of varying length ends, after a zero: 32 bits each, as a batch ends before 2 GiB. */
private final class Ends(allocator: BufferAllocator) extends AutoCloseable {
  private val memory = new ArrowMemory(allocator)
  private var last = 0L

  /** The next value takes `length` more. */
  def append(length: Long): Unit = {
    if (memory.length == 0) Platform.putInt(null, memory.append(4), 0)
    last += length
    Platform.putInt(null, memory.append(4), Math.toIntExact(last))
  }

  def show(buffers: LongSink): Unit = buffers.add(memory)

  def clear(): Unit = {
    memory.clear()
    last = 0
  }

  override def close(): Unit = memory.close()
}

/** Byte strings, and strings as their UTF-8. */
private final class BytesWriter(allocator: BufferAllocator) extends ColumnWriter(allocator) {
  private val ends = new Ends(allocator)
  private val bytes = new ArrowMemory(allocator)

  override protected def append(base: AnyRef, origin: Long, slot: Long): Unit = {
    val place = Platform.getLong(base, slot)
    val size = place & 0xffffffffL
    ends.append(size)
    Platform.copyMemory(base, origin + (place >>> 32), null, bytes.append(size), size)
  }

  override protected def appendNothing(): Unit = ends.append(0)

  override protected def showValues(nodes: LongSink, buffers: LongSink): Unit = {
    ends.show(buffers)
    buffers.add(bytes)
  }

  override protected def clearValues(): Unit = {
    ends.clear()
    bytes.clear()
  }

  override protected def closeValues(): Unit = {
    ends.close()
    bytes.close()
  }
}

private final class ListWriter(elements: ColumnWriter, allocator: BufferAllocator) extends ColumnWriter(allocator) {
  private val ends = new Ends(allocator)

  override protected def append(base: AnyRef, origin: Long, slot: Long): Unit = {
    val array = origin + (Platform.getLong(base, slot) >>> 32)
    val number = Platform.getLong(base, array).toInt
    ends.append(number)
    elements.writeElements(base, array, number)
  }

  override protected def appendNothing(): Unit = ends.append(0)

  override protected def showValues(nodes: LongSink, buffers: LongSink): Unit = {
    ends.show(buffers)
    elements.show(nodes, buffers)
  }

  override protected def clearValues(): Unit = {
    ends.clear()
    elements.clear()
  }

  override protected def closeValues(): Unit = {
    ends.close()
    elements.close()
  }
}

private final class StructWriter(fields: Array[ColumnWriter], allocator: BufferAllocator)
    extends ColumnWriter(allocator) {
  private val bitmapBytes = UnsafeRow.calculateBitSetWidthInBytes(fields.length)

  override protected def append(base: AnyRef, origin: Long, slot: Long): Unit = {
    val row = origin + (Platform.getLong(base, slot) >>> 32)
    var at = 0
    while (at < fields.length) {
      if (BitSetMethods.isSet(base, row, at)) fields(at).writeNull()
      else fields(at).write(base, row, row + bitmapBytes + at * 8L)
      at += 1
    }
  }

  override protected def appendNothing(): Unit = fields.foreach(_.writeNull())
  override protected def showValues(nodes: LongSink, buffers: LongSink): Unit = fields.foreach(_.show(nodes, buffers))
  override protected def clearValues(): Unit = fields.foreach(_.clear())
  override protected def closeValues(): Unit = fields.foreach(_.close())
}

/** Pairs of numbers, as they cross to native code. */
private[flambeau] final class LongSink {
  private val numbers = Array.newBuilder[Long]

  def add(one: Long, other: Long): Unit = numbers.addOne(one).addOne(other)

  def add(memory: ArrowMemory): Unit = add(memory.address, memory.length)

  def result: Array[Long] = numbers.result()
}
