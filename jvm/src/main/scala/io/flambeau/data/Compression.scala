// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import java.io.{BufferedInputStream, BufferedOutputStream, InputStream, OutputStream}
import java.util.zip.{DeflaterOutputStream, GZIPOutputStream, InflaterInputStream}

import com.github.luben.zstd.{ZstdInputStream, ZstdOutputStream}
import org.apache.commons.compress.compressors.gzip.GzipCompressorInputStream
import org.apache.hadoop.fs.Path

/**
 * How a whole file is compressed, as TensorFlow and Spark do it.
 *
 * @param name the option's value
 * @param suffixes of file names, the first for files that are written
 */
sealed abstract class Compression(val name: String, val suffixes: Seq[String]) extends Serializable {

  /** The plain bytes of `raw`; throws `IOException` where they are damaged or end early. */
  def decompress(raw: InputStream): InputStream

  /** Plain bytes to `raw`; closing writes the end. */
  def compress(raw: OutputStream): OutputStream
}

object Compression {

  case object Plain extends Compression("none", Seq("")) {
    override def decompress(raw: InputStream): InputStream = raw
    override def compress(raw: OutputStream): OutputStream = raw
  }

  /** Of any number of members; Java's own reader takes a damaged second one for the end. */
  case object Gzip extends Compression("gzip", Seq(".gz", ".gzip")) {
    override def decompress(raw: InputStream): InputStream = new GzipCompressorInputStream(bufferedInput(raw), true)
    override def compress(raw: OutputStream): OutputStream = new GZIPOutputStream(bufferedOutput(raw))
  }

  case object Zlib extends Compression("zlib", Seq(".zlib", ".deflate")) {
    override def decompress(raw: InputStream): InputStream = new InflaterInputStream(bufferedInput(raw))
    override def compress(raw: OutputStream): OutputStream = new DeflaterOutputStream(bufferedOutput(raw))
  }

  case object Zstd extends Compression("zstd", Seq(".zst", ".zstd")) {
    override def decompress(raw: InputStream): InputStream = new ZstdInputStream(raw)
    override def compress(raw: OutputStream): OutputStream = new ZstdOutputStream(raw)
  }

  val All: Seq[Compression] = Seq(Plain, Gzip, Zlib, Zstd)

  /** What the name of `path` says. */
  def of(path: Path): Compression =
    All.find(_.suffixes.exists(suffix => suffix.nonEmpty && path.getName.endsWith(suffix))).getOrElse(Plain)

  /** The coders above take and give bytes in pieces much smaller than a file system's. */
  private val BufferBytes = 64 << 10

  private def bufferedInput(raw: InputStream): InputStream = new BufferedInputStream(raw, BufferBytes)

  private def bufferedOutput(raw: OutputStream): OutputStream = new BufferedOutputStream(raw, BufferBytes)
}
