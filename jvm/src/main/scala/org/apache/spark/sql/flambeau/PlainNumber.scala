// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.unsafe.Platform

/**
 * Reads numbers whose value takes one exact operation: what Java's `parseLong` and `parseDouble` give,
 * to the bit. Others it refuses.
 */
private[flambeau] final class PlainNumber {
  import PlainCsvLine.NotPlain
  import PlainNumber._

  private var whole = 0L
  private var real = 0.0

  /** What `readInteger` has read. */
  def integer: Long = whole

  /** What `readDouble` or `readFloat` has read. */
  def decimal: Double = real

  /**
   * @param largest of the numbers of its type
   * @return where `[+-]?[0-9]{1,18}` from `from` on ends, or `NotPlain`
   */
  def readInteger(bytes: Array[Byte], from: Int, end: Int, largest: Long): Int = {
    var at = from
    val isNegative = at < end && bytes(at) == '-'
    if (isNegative || (at < end && bytes(at) == '+')) at += 1
    val first = at
    var value = 0L
    val eight =
      if (at + 8 <= end) Platform.getLong(bytes, Platform.BYTE_ARRAY_OFFSET + at.toLong) ^ Zeros else AllDigits
    val others = othersOf(eight)
    if (others != 0) {
      // No branch depends on how many digits there are, which no processor foresees.
      val count = java.lang.Long.numberOfTrailingZeros(others) >>> 3
      value = valueOf((eight << 1) << (63 - 8 * count))
      at += count
    } else {
      var digit = if (at < end) bytes(at) - '0' else NoDigit
      while (digit >= 0 && digit <= 9) {
        value = value * 10 + digit
        at += 1
        digit = if (at < end) bytes(at) - '0' else NoDigit
      }
    }
    if (isNegative) value = -value
    whole = value
    if (at == first || at - first > MaxDigits || value > largest || value < -largest - 1) NotPlain else at
  }

  /**
   * Likewise [[readDouble]], where the float next to the double is the one next to the number: that
   * is on the same side of the middle between two floats as its double, unless this is the very
   * middle. No number read here is beyond the normal floats.
   */
  def readFloat(bytes: Array[Byte], from: Int, end: Int): Int = {
    val to = readDouble(bytes, from, end)
    if ((java.lang.Double.doubleToRawLongBits(real) & BelowFloat) == MiddleOfFloats) NotPlain else to
  }

  /**
   * @return where a decimal number from `from` on ends, with a point and an exponent or without, or
   *   `NotPlain` if it is none or its digits and power of ten are not both exact as doubles: then
   *   their quotient or product is rounded once, as the number itself would be
   */
  def readDouble(bytes: Array[Byte], from: Int, end: Int): Int = {
    var at = from
    val isNegative = at < end && bytes(at) == '-'
    if (isNegative || (at < end && bytes(at) == '+')) at += 1
    var digits = 0
    var value = 0L
    var point = NoPoint
    var isOpen = true
    while (isOpen && at < end) {
      val digit = bytes(at) - '0'
      if (digit >= 0 && digit <= 9) {
        value = value * 10 + digit
        digits += 1
        at += 1
      } else if (bytes(at) == '.' && point == NoPoint) {
        point = digits
        at += 1
      } else isOpen = false
    }
    var exponent = if (point == NoPoint) 0L else point - digits.toLong
    if (at < end && (bytes(at) == 'e' || bytes(at) == 'E')) {
      at = readInteger(bytes, at + 1, end, Int.MaxValue)
      exponent += whole
    }
    if (digits == 0 || digits > MaxDigits || value > MaxExact || math.abs(exponent) >= Powers.length) NotPlain
    else {
      val magnitude = if (exponent < 0) value / Powers(-exponent.toInt) else value * Powers(exponent.toInt)
      real = if (isNegative) -magnitude else magnitude
      at
    }
  }
}

private object PlainNumber {

  /** Eight characters `0`; with these gone, a digit is a byte up to 9. The first is the lowest byte. */
  private final val Zeros = 0x3030303030303030L
  private final val AllDigits = 0L

  /** The highest bit of bytes that are no digits, right up to the first such byte and in it. */
  private def othersOf(eight: Long): Long = ((eight + 0x7676767676767676L) | eight) & 0x8080808080808080L

  /** The value of eight digits: pairs, then all four of these at once, in the upper half of products. */
  private def valueOf(eight: Long): Long = {
    val pairs = eight * 10 + (eight >>> 8)
    val even = (pairs & 0x000000ff000000ffL) * (100L + (1000000L << 32))
    val odd = ((pairs >>> 16) & 0x000000ff000000ffL) * (1L + (10000L << 32))
    (even + odd) >>> 32
  }

  /** So many are never too many for a long. */
  private final val MaxDigits = 18

  /** Up to here every integer is a double. */
  private final val MaxExact = 1L << 53

  /** Those of ten that are doubles. */
  private val Powers = Array.tabulate(23)(power => s"1e$power".toDouble)

  private final val NoDigit = -1
  private final val NoPoint = -1

  /** The bits of a double that a float does not have, and their value in the middle between two floats. */
  private final val BelowFloat = (1L << 29) - 1
  private final val MiddleOfFloats = 1L << 28
}
