// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.{DataInputStream, EOFException, IOException, InputStream}
import java.util.zip.GZIPInputStream

import scala.util.Using

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path

import io.flambeau.DataException

/**
 * An IDX file of unsigned bytes, the format of MNIST: two zero bytes, the type 0x08, the number of
 * dimensions, each dimension as a big-endian u32, then the values.
 */
private[cli] final case class Idx(dimensions: Seq[Int], values: Array[Byte]) {

  def count: Int = dimensions.head

  /** Values of one item. */
  def itemSize: Int = dimensions.tail.product
}

private[cli] object Idx {
  private val UnsignedByte = 0x08
  private val HeaderBytes = 4
  private val DimensionBytes = 4

  /** @throws DataException naming path, offset and what is wrong there */
  def read(location: String, conf: Configuration): Idx = {
    val path = new Path(location)
    try {
      Using.resource(path.getFileSystem(conf).open(path)) { raw =>
        parse(location, if (location.endsWith(".gz")) new GZIPInputStream(raw) else raw)
      }
    } catch {
      case error: IOException => throw new DataException(s"$location: ${error.getMessage}", error)
    }
  }

  /** @param location for messages; offsets are those of the unpacked file */
  def parse(location: String, stream: InputStream): Idx = {
    def refuse(offset: Long, why: String): Nothing =
      throw new DataException(s"$location: not an IDX file of unsigned bytes: $why at byte $offset")

    val input = new DataInputStream(stream)
    try {
      val magic = input.readInt()
      if (magic >>> 8 != UnsignedByte) refuse(0, f"header 0x$magic%08x instead of 0x0000080N")
      val rank = magic & 0xff
      if (rank == 0) refuse(3, "no dimensions")
      val dimensions = Seq.tabulate(rank) { index =>
        val size = input.readInt()
        if (size < 0) {
          refuse(HeaderBytes + index * DimensionBytes, s"dimension ${Integer.toUnsignedLong(size)} is too large")
        }
        size
      }
      val header = HeaderBytes + rank.toLong * DimensionBytes
      val length =
        try dimensions.reduce(Math.multiplyExact(_, _))
        catch {
          case _: ArithmeticException => refuse(HeaderBytes, s"${dimensions.mkString(" x ")} values are too many")
        }
      val values = input.readNBytes(length)
      if (values.length < length) {
        refuse(header + values.length, s"${values.length} values instead of $length, the end of the file")
      }
      if (input.read() >= 0) refuse(header + length, s"more than the $length values of the header")
      Idx(dimensions, values)
    } catch {
      case error: EOFException =>
        throw new DataException(s"$location: not an IDX file of unsigned bytes: it ends within the header", error)
    }
  }
}
