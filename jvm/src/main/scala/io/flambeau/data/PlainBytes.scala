// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import java.io.{EOFException, FilterInputStream, IOException, InputStream}

import scala.annotation.tailrec

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path

import io.flambeau.{DataException, StorageException}
import io.flambeau.jni.{DecodedBatch, Session}

/**
 * The bytes of a file, decompressed, from an offset on: what native sessions decode. Holds one
 * chunk of them.
 */
final class PlainBytes private (path: Path, compression: Compression, stream: InputStream, start: Long)
    extends AutoCloseable {
  import PlainBytes._

  private var chunk = new Array[Byte](ChunkBytes)
  private var offset = start

  /** The next batch of `session`, which gets as many bytes as that takes. */
  def decode(session: Session): DecodedBatch = {
    @tailrec def next(length: Int): DecodedBatch = session.decode(chunk, length) match {
      case Some(batch) => batch
      case None => next(fill())
    }
    next(0)
  }

  override def close(): Unit = {
    // A task that reads many files may hold on to all their readers until it ends.
    chunk = Array.emptyByteArray
    stream.close()
  }

  /** Bytes now in the chunk, or -1 at the end. */
  private def fill(): Int =
    try {
      var filled = 0
      var read = 0
      while (read >= 0 && filled < chunk.length) {
        read = stream.read(chunk, filled, chunk.length - filled)
        if (read > 0) {
          filled += read
          offset += read
        }
      }
      if (filled > 0) filled else End
    } catch {
      // Of the file system itself the stream throws no IOException.
      case error: IOException => throw damaged(path, compression, offset, error)
    }
}

object PlainBytes {
  private val ChunkBytes = 128 << 10
  private val End = -1

  /**
   * Opens `path` at `start`, which is 0 unless the file is not compressed.
   *
   * @throws java.io.IOException as the file system does: Spark can ignore files that have gone
   */
  def open(path: Path, compression: Compression, start: Long, conf: Configuration): PlainBytes = {
    val file = path.getFileSystem(conf).open(path)
    try {
      file.seek(start)
      new PlainBytes(path, compression, decompressed(path, compression, new StoredBytes(path, file)), start)
    } catch {
      case error: Throwable =>
        file.close()
        throw error
    }
  }

  /** Some formats are refused by their first bytes already. */
  private def decompressed(path: Path, compression: Compression, stored: InputStream): InputStream =
    try compression.decompress(stored)
    catch {
      case error: IOException => throw damaged(path, compression, 0, error)
    }

  private def damaged(path: Path, compression: Compression, offset: Long, error: IOException): DataException = {
    val why = error match {
      case _: EOFException => "it ends too early"
      case other => other.getMessage
    }
    new DataException(
      s"$path: damaged ${compression.name} file: $why, after $offset plain bytes. Try: the option compression, if " +
        "its name misleads; spark.sql.files.ignoreCorruptFiles=true, which leaves the rest of the file out",
      error)
  }

  /** Tells failures of the file system from those of what reads the bytes. */
  private final class StoredBytes(path: Path, file: InputStream) extends FilterInputStream(file) {
    override def read(): Int = reading(file.read())
    override def read(bytes: Array[Byte], from: Int, length: Int): Int = reading(file.read(bytes, from, length))
    override def markSupported(): Boolean = false

    private def reading(read: => Int): Int =
      try read
      catch {
        case error: IOException => throw new StorageException(s"$path: ${error.getMessage}", error)
      }
  }
}
