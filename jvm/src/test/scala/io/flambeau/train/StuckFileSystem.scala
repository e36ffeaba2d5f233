// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.net.URI
import java.util.concurrent.CountDownLatch

import org.apache.hadoop.fs.{FSDataOutputStream, Path, RawLocalFileSystem}
import org.apache.hadoop.util.Progressable

/** The local file system as `stuck:`, which answers to nobody who writes a checkpoint, whatever interrupts it. */
final class StuckFileSystem extends RawLocalFileSystem {
  override def getUri: URI = URI.create("stuck:///")

  override def create(
      file: Path,
      overwrite: Boolean,
      bufferSize: Int,
      replication: Short,
      blockSize: Long,
      progress: Progressable): FSDataOutputStream = {
    if (file.getName.startsWith(".ckpt")) StuckFileSystem.hang()
    super.create(file, overwrite, bufferSize, replication, blockSize, progress)
  }
}

object StuckFileSystem {

  /** At zero once somebody hangs. */
  val reached = new CountDownLatch(1)

  /** What they wait for. */
  val released = new CountDownLatch(1)

  private def hang(): Unit = {
    reached.countDown()
    var interrupted = false
    while (released.getCount > 0)
      try released.await()
      catch { case _: InterruptedException => interrupted = true }
    if (interrupted) Thread.currentThread.interrupt()
  }
}
