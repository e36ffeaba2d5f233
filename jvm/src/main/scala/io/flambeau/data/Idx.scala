// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import java.io.{BufferedInputStream, DataInputStream, EOFException, IOException, InputStream, OutputStream}
import java.util.zip.GZIPInputStream

import scala.util.Using

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path

import io.flambeau.DataException

/**
 * An IDX file of unsigned bytes, the format of MNIST: two zero bytes, the type 0x08, the number of
 * dimensions, each dimension as a big-endian u32, then the values. A file whose name ends with .gz
 * is packed.
 */
private[flambeau] final case class Idx(location: String, dimensions: Seq[Int]) {

  def count: Int = dimensions.head

  /** Values of one item. */
  def itemSize: Int = dimensions.tail.product

  /** The items from number `first` on; of a packed file those before are unpacked too. */
  def items(first: Long, conf: Configuration): IdxItems = {
    val input = new DataInputStream(new BufferedInputStream(Idx.open(location, conf)))
    input.skipNBytes(Idx.headerBytes(dimensions.length) + first * itemSize)
    new IdxItems(input, count - first, itemSize)
  }
}

/** Items of an IDX file, one after the other. */
private[flambeau] final class IdxItems(input: DataInputStream, count: Long, size: Int)
    extends Iterator[Array[Byte]]
    with AutoCloseable {
  private var read = 0L

  override def hasNext: Boolean = read < count

  override def next(): Array[Byte] = {
    val item = new Array[Byte](size)
    input.readFully(item)
    read += 1
    item
  }

  override def close(): Unit = input.close()
}

private[flambeau] object Idx {
  private val UnsignedByte = 0x08
  private val HeaderBytes = 4
  private val DimensionBytes = 4

  /**
   * Reads through the file to see that it is whole, and keeps none of it.
   *
   * @throws DataException naming path, offset and what is wrong there
   */
  def check(location: String, conf: Configuration): Idx =
    try Using.resource(open(location, conf))(parse(location, _))
    catch {
      case error: IOException => throw new DataException(s"$location: ${error.getMessage}", error)
    }

  private def open(location: String, conf: Configuration): InputStream = {
    val path = new Path(location)
    val raw = path.getFileSystem(conf).open(path)
    if (location.endsWith(".gz")) new GZIPInputStream(raw) else raw
  }

  private def headerBytes(rank: Int): Long = HeaderBytes + rank.toLong * DimensionBytes

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
      val length =
        try dimensions.reduce(Math.multiplyExact(_, _))
        catch {
          case _: ArithmeticException => refuse(HeaderBytes, s"${dimensions.mkString(" x ")} values are too many")
        }
      val values = input.transferTo(OutputStream.nullOutputStream())
      val header = headerBytes(rank)
      if (values < length) refuse(header + values, s"$values values instead of $length, the end of the file")
      if (values > length) refuse(header + length, s"more than the $length values of the header")
      Idx(location, dimensions)
    } catch {
      case error: EOFException =>
        throw new DataException(s"$location: not an IDX file of unsigned bytes: it ends within the header", error)
    }
  }
}
