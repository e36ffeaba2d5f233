// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.annotation.switch

import org.apache.spark.sql.catalyst.csv.CSVOptions
import org.apache.spark.sql.catalyst.expressions.UnsafeRow
import org.apache.spark.sql.catalyst.expressions.codegen.UnsafeRowWriter
import org.apache.spark.sql.types._

/**
 * Parses plain lines: those whose every value is beyond doubt. They have one field for each column
 * of `dataSchema`, none of them quoted; the ones that are required are empty (null), decimal numbers
 * in the range of their type, `true` or `false`, or strings of printable ASCII without a space at
 * either end. Numbers are those that [[PlainNumber]] takes.
 *
 * @param requiredSchema the columns of the rows, which [[PlainCsvLine.covers]]
 */
private[flambeau] final class PlainCsvLine(
    dialect: PlainCsvDialect, dataSchema: StructType, requiredSchema: StructType) {
  import PlainCsvLine._

  private val delimiter = dialect.delimiter
  private val quote = dialect.quote
  private val escape = dialect.escape
  private val comment = dialect.comment
  private val nullValue = dialect.nullValue

  /** Of each column in the line: how it is read, and where it is in the row. */
  private val kinds = Array.fill(dataSchema.length)(Skipped)
  private val ordinals = new Array[Int](dataSchema.length)
  for ((field, ordinal) <- requiredSchema.zipWithIndex) {
    kinds(dataSchema.indexOf(field)) = Kinds(field.dataType)
    ordinals(dataSchema.indexOf(field)) = ordinal
  }

  private val number = new PlainNumber
  private var writer = new UnsafeRowWriter(requiredSchema.length)
  private var other = new UnsafeRowWriter(requiredSchema.length)

  /** Of the line that was parsed last. It stays as it is while one more line is parsed. */
  def row: UnsafeRow = writer.getRow

  /** Whether the first `end` bytes are a plain line. */
  def parse(bytes: Array[Byte], end: Int): Boolean =
    // White space and comments are Spark's, which may take them for no row.
    if (end == 0 || bytes(0) <= ' ' || bytes(0) == comment) false
    else {
      val spare = other
      other = writer
      writer = spare
      writer.reset()
      writer.zeroOutNullBytes()
      val last = kinds.length - 1
      var at = 0
      var field = 0
      while (field < last && at != NotPlain) {
        val to = read(field, bytes, at, end)
        at = if (to != NotPlain && to < end && bytes(to) == delimiter) to + 1 else NotPlain
        field += 1
      }
      at != NotPlain && read(last, bytes, at, end) == end
    }

  /**
   * In methods that are small enough for the JVM to make one of them. What is written of a field that
   * is not plain, nobody sees.
   *
   * @return where the field that begins at `from` ends, or `NotPlain`
   */
  private def read(field: Int, bytes: Array[Byte], from: Int, end: Int): Int = {
    val kind = kinds(field)
    if (kind == Skipped) skip(bytes, from, end)
    else if (from == end || bytes(from) == delimiter) {
      writer.setNullAt(ordinals(field))
      from
    } else if (kind <= ALong) readInteger(kind, ordinals(field), bytes, from, end)
    else readOther(kind, ordinals(field), bytes, from, end)
  }

  private def readInteger(kind: Int, ordinal: Int, bytes: Array[Byte], from: Int, end: Int): Int = {
    val to = number.readInteger(bytes, from, end, Largest(kind))
    val value = number.integer
    (kind: @switch) match {
      case AByte => writer.write(ordinal, value.toByte)
      case AShort => writer.write(ordinal, value.toShort)
      case AnInt => writer.write(ordinal, value.toInt)
      case ALong => writer.write(ordinal, value)
    }
    to
  }

  private def readOther(kind: Int, ordinal: Int, bytes: Array[Byte], from: Int, end: Int): Int =
    (kind: @switch) match {
      case AFloat =>
        val to = number.readFloat(bytes, from, end)
        writer.write(ordinal, number.decimal.toFloat)
        to
      case ADouble =>
        val to = number.readDouble(bytes, from, end)
        writer.write(ordinal, number.decimal)
        to
      case ABoolean =>
        val isTrue = startsWith(bytes, from, end, True)
        writer.write(ordinal, isTrue)
        if (isTrue) from + True.length
        else if (startsWith(bytes, from, end, False)) from + False.length
        else NotPlain
      case AString => readString(ordinal, bytes, from, end)
    }

  private def readString(ordinal: Int, bytes: Array[Byte], from: Int, end: Int): Int = {
    var to = from
    while (to < end && isText(bytes(to))) to += 1
    if (bytes(from) == ' ' || bytes(to - 1) == ' ') NotPlain
    else {
      if (to - from == nullValue.length && startsWith(bytes, from, end, nullValue)) writer.setNullAt(ordinal)
      else writer.write(ordinal, bytes, from, to - from)
      to
    }
  }

  /** Goes by a field that nobody wants, in any script: where it is not quoted, it has no delimiter. */
  private def skip(bytes: Array[Byte], from: Int, end: Int): Int = {
    var to = from
    while (to < end && (bytes(to) < 0 || isText(bytes(to)))) to += 1
    to
  }

  private def isText(byte: Byte): Boolean =
    byte >= ' ' && byte != delimiter && byte != quote && byte != escape && byte != 0x7f

  private def startsWith(bytes: Array[Byte], from: Int, end: Int, text: Array[Byte]): Boolean = {
    var at = 0
    while (at < text.length && from + at < end && bytes(from + at) == text(at)) at += 1
    at == text.length
  }
}

private[flambeau] object PlainCsvLine {

  /** Whether every plain line of such columns has the same row here as Spark gives it. */
  def covers(dataSchema: StructType, requiredSchema: StructType, options: CSVOptions): Boolean = {
    val places = requiredSchema.map(dataSchema.indexOf(_))
    requiredSchema.nonEmpty &&
    places.forall(_ >= 0) && places.distinct.length == places.length &&
    requiredSchema.forall(field => field.nullable && Kinds.contains(field.dataType)) &&
    dataSchema.length <= options.maxColumns &&
    !dataSchema.fieldNames.contains(options.columnNameOfCorruptRecord)
  }

  /** In place of where a field ends. */
  private[flambeau] final val NotPlain = -1

  /** Kinds of columns; those up to `ALong` are integers. */
  private final val Skipped = 0
  private final val AByte = 1
  private final val AShort = 2
  private final val AnInt = 3
  private final val ALong = 4
  private final val AFloat = 5
  private final val ADouble = 6
  private final val ABoolean = 7
  private final val AString = 8

  /** Of the kinds up to `ALong`. */
  private val Largest = Array[Long](0, Byte.MaxValue, Short.MaxValue, Int.MaxValue, Long.MaxValue)

  private val Kinds: Map[DataType, Int] = Map(
    ByteType -> AByte,
    ShortType -> AShort,
    IntegerType -> AnInt,
    LongType -> ALong,
    FloatType -> AFloat,
    DoubleType -> ADouble,
    BooleanType -> ABoolean,
    StringType -> AString)

  private val True = "true".getBytes
  private val False = "false".getBytes
}
