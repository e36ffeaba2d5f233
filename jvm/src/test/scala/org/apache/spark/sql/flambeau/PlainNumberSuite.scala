// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.lang.{Double => JDouble, Float => JFloat}
import java.nio.charset.StandardCharsets.UTF_8

import scala.util.{Random, Try}

import org.scalatest.funsuite.AnyFunSuite

/** Against Java, which is what Spark's reader asks. */
class PlainNumberSuite extends AnyFunSuite {
  private val number = new PlainNumber
  private val random = new Random(7)

  /** What is read of a whole text, at the end of a line and further in front, where more digits follow. */
  private def whole[T](text: String)(read: (Array[Byte], Int, Int) => Int)(value: => T): Option[T] = {
    val bytes = s"7$text,12345678".getBytes(UTF_8)
    val end = bytes.length - ",12345678".length
    val inside = Option.when(read(bytes, 1, bytes.length) == end)(value)
    val last = Option.when(read(bytes, 1, end) == end)(value)
    assert(inside == last, text)
    last
  }

  private def integer(text: String, largest: Long): Option[Long] =
    whole(text)(number.readInteger(_, _, _, largest))(number.integer)

  private def double(text: String): Option[Double] = whole(text)(number.readDouble)(number.decimal)

  private def float(text: String): Option[Float] = whole(text)(number.readFloat)(number.decimal.toFloat)

  private def digits(length: Int): String = Seq.fill(length)(('0' + random.nextInt(10)).toChar).mkString

  private def sign(): String = Seq("", "", "-", "+")(random.nextInt(4))

  /** @return whether it was read */
  private def checkDecimal(text: String): Boolean = {
    val (asDouble, asFloat) = (double(text), float(text))
    asDouble.foreach { value =>
      val expected = Try(JDouble.parseDouble(text)).toOption.map(JDouble.doubleToRawLongBits)
      assert(expected.contains(JDouble.doubleToRawLongBits(value)), text)
    }
    asFloat.foreach { value =>
      val expected = Try(JFloat.parseFloat(text)).toOption.map(JFloat.floatToRawIntBits)
      assert(expected.contains(JFloat.floatToRawIntBits(value)), text)
    }
    asDouble.nonEmpty && asFloat.nonEmpty
  }

  test("integers are those of Java in the range of their type, and no others") {
    val edges = for {
      bits <- Seq(7, 15, 31, 59)
      near <- -2L to 2L
      negative <- Seq(false, true)
    } yield ((if (negative) -(1L << bits) else 1L << bits) + near).toString
    val odd = Seq(
      "", "-", "+", "+-1", "--1", "1 ", " 1", "1.0", "1e3", "0x1", "1_0", "٣", "\u00001", "1-", "00012", "-0")
    val drawn = Seq.fill(20000)(sign() + digits(1 + random.nextInt(18)))
    for (text <- edges ++ odd ++ drawn) {
      def check(largest: Long)(parse: String => Long): Unit =
        // Digits of other scripts are left to Spark.
        assert(integer(text, largest) == Try(parse(text)).toOption.filter(_ => text != "٣"), text)
      check(Byte.MaxValue)(_.toByte.toLong)
      check(Short.MaxValue)(_.toShort.toLong)
      check(Int.MaxValue)(_.toInt.toLong)
      check(Long.MaxValue)(_.toLong)
    }
    for (text <- Seq("1234567890123456789", "-9223372036854775808", "9223372036854775808", "0" * 30))
      assert(integer(text, Long.MaxValue).isEmpty, text)
  }

  test("decimal numbers have the bits of Java's doubles and floats") {
    def exponent() = Seq("", "", "", s"e${random.nextInt(50) - 25}", s"E+${random.nextInt(12)}")(random.nextInt(5))
    for (_ <- 0 until 300000) {
      val point = Seq("", ".")(random.nextInt(2))
      checkDecimal(sign() + digits(random.nextInt(10)) + point + digits(random.nextInt(10)) + exponent())
    }
    val others = Seq(
      "", ".", "-", "-.", "e5", "1e", "1e+", "1.2.3", "1f", "1d", "NaN", "Infinity", "0x1p3", "1e400", "1 ",
      "1e9999999999999999999")
    for (text <- others) assert(double(text).isEmpty && float(text).isEmpty, text)
    for (text <- Seq("0", "-0", "-0.0", "1.", ".5", "+5", "1e5", "00.10", "9007199254740992", "1e22", "123e-22"))
      assert(double(text).nonEmpty, text)
  }

  test("what halves the way between two floats is not rounded twice") {
    for (_ <- 0 until 100000) {
      val float = JFloat.intBitsToFloat(JFloat.floatToRawIntBits(random.nextFloat() * 1e6f))
      val middle = (BigDecimal.exact(float.toDouble) + BigDecimal.exact(Math.nextUp(float).toDouble)) / 2
      val digits = middle.bigDecimal.toPlainString
      for (length <- 8 to 18) checkDecimal(digits.take(length))
      checkDecimal(digits)
    }
    assert(float("16777217").isEmpty && float("16777216").contains(16777216f))
  }

  test("the numbers of a usual table are read") {
    def one(): Any = random.nextInt(4) match {
      case 0 => random.nextInt(1 << 24)
      case 1 => random.nextFloat()
      case 2 => f"${random.nextGaussian()}%.6f"
      case _ => random.nextInt(256)
    }
    val texts = Seq.fill(10000)(one().toString)
    assert(texts.count(checkDecimal) == texts.length)
    assert(Seq.fill(10000)(random.nextDouble().toString).count(text => double(text).nonEmpty) > 5000)
  }
}
