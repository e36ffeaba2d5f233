// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import javax.imageio.ImageIO

import org.apache.spark.sql.{Column, DataFrame}
import org.apache.spark.sql.functions.udf
import org.apache.spark.sql.types.{ArrayType, BinaryType, ByteType, IntegerType, LongType, ShortType}

import io.flambeau.DataException

/** Images as bytes, one a value, and as what else conversions make of them. */
private[cli] object Pixels {

  /** A binary column as an array of numbers from 0 to 255. */
  val numbers: Column => Column = {
    val unsigned = udf { (bytes: Array[Byte]) => Option(bytes).map(_.map(_ & 0xffL)).orNull }
    unsigned(_)
  }

  /** An array of numbers from 0 to 255 as a binary column. */
  private val bytes: Column => Column = {
    val narrowed = udf { (values: Seq[Long]) => Option(values).map(_.map(byte).toArray).orNull }
    narrowed(_)
  }

  /**
   * The column `name` of `table` as bytes, whether it holds those or arrays of numbers.
   *
   * @throws DataException if it is not there, or holds something else
   */
  def of(table: DataFrame, name: String): Column = table.schema.fields.find(_.name == name).map(_.dataType) match {
    case Some(BinaryType) => table(name)
    case Some(ArrayType(ByteType | ShortType | IntegerType | LongType, _)) => bytes(table(name).cast(ArrayType(LongType)))
    case Some(other) => throw new DataException(s"image column '$name' is ${other.sql}; it must be binary or an array of integers")
    case None => throw new DataException(s"there is no image column '$name' among ${table.columns.mkString(", ")}")
  }

  /**
   * A PNG file of raw pixels.
   *
   * @param pixels rows of `width` pixels of `channels` (1, 3 or 4) bytes each
   * @throws DataException if they are not so many
   */
  def png(pixels: Array[Byte], height: Int, width: Int, channels: Int): Array[Byte] = {
    if (pixels.length != height * width * channels) {
      throw new DataException(
        s"an image of ${pixels.length} bytes is not $height x $width x $channels. Try: another --shape")
    }
    val kind = channels match {
      case 1 => BufferedImage.TYPE_BYTE_GRAY
      case 3 => BufferedImage.TYPE_3BYTE_BGR
      case _ => BufferedImage.TYPE_4BYTE_ABGR
    }
    val image = new BufferedImage(width, height, kind)
    image.getRaster.setPixels(0, 0, width, height, pixels.map(_ & 0xff))
    val out = new ByteArrayOutputStream
    ImageIO.write(image, "png", out)
    out.toByteArray
  }

  private def byte(value: Long): Byte = {
    if (value < 0 || value > 255) throw new DataException(s"$value is no pixel: pixels are from 0 to 255")
    value.toByte
  }
}
