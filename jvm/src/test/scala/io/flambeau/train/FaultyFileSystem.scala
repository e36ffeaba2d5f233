// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.{FilterOutputStream, IOException, OutputStream}
import java.util.concurrent.atomic.AtomicInteger

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.{FSDataInputStream, FSDataOutputStream, FileStatus, Path, RawLocalFileSystem}
import org.apache.hadoop.util.Progressable

/** The local file system, all of whose operations fail from one of them on, as if its process had ended there. */
final class FaultyFileSystem extends RawLocalFileSystem {
  import FaultyFileSystem.count

  override def create(
      file: Path,
      overwrite: Boolean,
      bufferSize: Int,
      replication: Short,
      blockSize: Long,
      progress: Progressable): FSDataOutputStream = {
    count()
    val out = super.create(file, overwrite, bufferSize, replication, blockSize, progress)
    new FSDataOutputStream(new FaultyStream(out), null)
  }

  override def open(file: Path, bufferSize: Int): FSDataInputStream = { count(); super.open(file, bufferSize) }
  override def rename(from: Path, to: Path): Boolean = { count(); super.rename(from, to) }
  override def delete(file: Path, recursive: Boolean): Boolean = { count(); super.delete(file, recursive) }
  override def getFileStatus(file: Path): FileStatus = { count(); super.getFileStatus(file) }
  override def listStatus(folder: Path): Array[FileStatus] = { count(); super.listStatus(folder) }
}

object FaultyFileSystem {
  private val left = new AtomicInteger(Int.MaxValue)

  /** A configuration in which `file:` is this file system. */
  def configuration: Configuration = {
    val conf = new Configuration
    conf.set("fs.file.impl", classOf[FaultyFileSystem].getName)
    conf.setBoolean("fs.file.impl.disable.cache", true)
    conf
  }

  /** Runs `body`, in which `operations` succeed; whether they were enough. */
  def allowing(operations: Int)(body: => Unit): Boolean = {
    left.set(operations)
    try {
      body
      true
    } catch { case _: Exception if left.get < 0 => false }
    finally left.set(Int.MaxValue)
  }

  private[train] def count(): Unit = if (left.getAndUpdate(n => if (n < 0) n else n - 1) <= 0) throw new IOException("the end of the process")
}

/** Half of what is written where the process ends has come to the disk. */
private final class FaultyStream(out: OutputStream) extends FilterOutputStream(out) {
  override def write(bytes: Array[Byte], start: Int, length: Int): Unit = {
    out.write(bytes, start, length / 2)
    out.flush()
    FaultyFileSystem.count()
    out.write(bytes, start + length / 2, length - length / 2)
  }

  override def close(): Unit = {
    FaultyFileSystem.count()
    out.close()
  }
}
