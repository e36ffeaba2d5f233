// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.{ColumnarArray, ColumnarMap, ColumnVector}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** A column of memory in Arrow's layout that is lent: reading after it was closed is not checked. */
private[flambeau] sealed abstract class LentVector(kind: DataType) extends ColumnVector(kind) {
  private var nulls = 0
  private var validity = 0L
  private var closed: () => Unit = _

  /** @param whenClosed is called once */
  final def lend(place: BatchPlace, whenClosed: () => Unit): Unit = {
    nulls = place.nullCount().toInt
    validity = place.address()
    closed = whenClosed
    lendValues(place)
  }

  protected def lendValues(place: BatchPlace): Unit

  final override def close(): Unit =
    if (closed != null) {
      val tell = closed
      closed = null
      tell()
    }

  final override def hasNull: Boolean = nulls > 0
  final override def numNulls: Int = nulls
  final override def isNullAt(row: Int): Boolean = nulls > 0 && !LentVector.bit(validity, row)

  override def getBoolean(row: Int): Boolean = other()
  override def getByte(row: Int): Byte = other()
  override def getShort(row: Int): Short = other()
  override def getInt(row: Int): Int = other()
  override def getLong(row: Int): Long = other()
  override def getFloat(row: Int): Float = other()
  override def getDouble(row: Int): Double = other()
  override def getArray(row: Int): ColumnarArray = other()
  override def getMap(row: Int): ColumnarMap = other()
  override def getDecimal(row: Int, precision: Int, scale: Int): Decimal = other()
  override def getUTF8String(row: Int): UTF8String = other()
  override def getBinary(row: Int): Array[Byte] = other()
  override def getChild(at: Int): ColumnVector = other()

  private def other(): Nothing = throw new UnsupportedOperationException(s"values are of type ${kind.sql}")
}

private[flambeau] object LentVector {

  /** Of the types that records have. */
  def of(kind: DataType): LentVector = kind match {
    case BooleanType => new LentBooleans
    case BinaryType | _: StringType => new LentBytes(kind)
    case ArrayType(element, _) => new LentLists(kind, of(element))
    case number => new LentNumbers(number)
  }

  private[flambeau] def bit(bits: Long, at: Int): Boolean = (Platform.getByte(null, bits + (at >> 3)) >> (at & 7) & 1) != 0
}

/** Numbers of any width, read as what the column's type is. */
private final class LentNumbers(kind: DataType) extends LentVector(kind) {
  private var values = 0L

  override protected def lendValues(place: BatchPlace): Unit = values = place.address()

  override def getByte(row: Int): Byte = Platform.getByte(null, values + row)
  override def getShort(row: Int): Short = Platform.getShort(null, values + row * 2L)
  override def getInt(row: Int): Int = Platform.getInt(null, values + row * 4L)
  override def getLong(row: Int): Long = Platform.getLong(null, values + row * 8L)
  override def getFloat(row: Int): Float = Platform.getFloat(null, values + row * 4L)
  override def getDouble(row: Int): Double = Platform.getDouble(null, values + row * 8L)

  override def getBytes(row: Int, count: Int): Array[Byte] = {
    val out = new Array[Byte](count)
    copy(row, count, out, Platform.BYTE_ARRAY_OFFSET.toLong, 1)
    out
  }

  override def getShorts(row: Int, count: Int): Array[Short] = {
    val out = new Array[Short](count)
    copy(row, count, out, Platform.SHORT_ARRAY_OFFSET.toLong, 2)
    out
  }

  override def getInts(row: Int, count: Int): Array[Int] = {
    val out = new Array[Int](count)
    copy(row, count, out, Platform.INT_ARRAY_OFFSET.toLong, 4)
    out
  }

  override def getLongs(row: Int, count: Int): Array[Long] = {
    val out = new Array[Long](count)
    copy(row, count, out, Platform.LONG_ARRAY_OFFSET.toLong, 8)
    out
  }

  override def getFloats(row: Int, count: Int): Array[Float] = {
    val out = new Array[Float](count)
    copy(row, count, out, Platform.FLOAT_ARRAY_OFFSET.toLong, 4)
    out
  }

  override def getDoubles(row: Int, count: Int): Array[Double] = {
    val out = new Array[Double](count)
    copy(row, count, out, Platform.DOUBLE_ARRAY_OFFSET.toLong, 8)
    out
  }

  private def copy(row: Int, count: Int, out: AnyRef, offset: Long, width: Long): Unit =
    Platform.copyMemory(null, values + row * width, out, offset, count * width)
}

private final class LentBooleans extends LentVector(BooleanType) {
  private var values = 0L

  override protected def lendValues(place: BatchPlace): Unit = values = place.address()
  override def getBoolean(row: Int): Boolean = LentVector.bit(values, row)
}

/** Byte strings, and strings. */
private final class LentBytes(kind: DataType) extends LentVector(kind) {
  private var ends = 0L
  private var bytes = 0L

  override protected def lendValues(place: BatchPlace): Unit = {
    ends = place.address()
    bytes = place.address()
  }

  override def getUTF8String(row: Int): UTF8String = UTF8String.fromAddress(null, bytes + start(row), length(row))

  override def getBinary(row: Int): Array[Byte] = {
    val out = new Array[Byte](length(row))
    Platform.copyMemory(null, bytes + start(row), out, Platform.BYTE_ARRAY_OFFSET.toLong, out.length.toLong)
    out
  }

  private def start(row: Int): Int = Platform.getInt(null, ends + row * 4L)
  private def length(row: Int): Int = start(row + 1) - start(row)
}

private final class LentLists(kind: DataType, elements: LentVector) extends LentVector(kind) {
  private var ends = 0L

  override protected def lendValues(place: BatchPlace): Unit = {
    ends = place.address()
    elements.lend(place, LentLists.Nothing)
  }

  override def getArray(row: Int): ColumnarArray = new ColumnarArray(elements, start(row), start(row + 1) - start(row))

  override def getChild(at: Int): ColumnVector = elements

  private def start(row: Int): Int = Platform.getInt(null, ends + row * 4L)
}

private object LentLists {

  /** The elements' memory goes with the lists'. */
  val Nothing: () => Unit = () => ()
}
