// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.IOException
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.{Files, Path => LocalPath}

import scala.util.Using

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.{ChecksumFileSystem, FileContext, FileSystem, Options, Path, RawLocalFileSystem}
import org.json4s.JString
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.{compact, parse}

import io.flambeau.{ConfigException, StorageException}

/**
 * The directory of one model, on any file system Hadoop knows. A file appears whole or not at all:
 * it is written under a temporary name and renamed. `run.json` names the run that owns the
 * directory, the last that committed a file; `checkpoint` points to that run's newest checkpoint.
 *
 * @param keep how many of the run's newest checkpoints stay, whatever attempt left them
 */
private[train] final class ModelDirectory(location: String, runId: String, conf: Configuration, keep: Int) {
  import ModelDirectory._

  private val root = new Path(location)

  /** Without the checksum files that Hadoop leaves beside files on local disks. */
  private lazy val files: FileSystem = root.getFileSystem(conf) match {
    case checksummed: ChecksumFileSystem => checksummed.getRawFileSystem
    case other => other
  }

  /** @throws ConfigException if the directory cannot be made and written to */
  def checkWritable(): Unit =
    try {
      files.mkdirs(root)
      val probe = at(s".$runId.tmp")
      files.create(probe, true).close()
      files.delete(probe, false)
    } catch {
      case error @ (_: IOException | _: IllegalArgumentException) =>
        throw new ConfigException(
          s"modelDir $location cannot be written: ${error.getMessage}. Try: a directory that this user may write",
          error)
    }

  /** Copies the local file to `name`, replacing what is there. */
  def commit(local: LocalPath, name: String): Unit = storing(name) {
    claimed
    write(name)(Files.copy(local, _))
    if (name == Pointer) prune()
  }

  /** Deletes `name`, if it is there. */
  def remove(name: String): Unit = storing(name)(files.delete(at(name), false))

  /** The newest checkpoint that this run has committed. */
  def checkpoint(): Option[String] = storing(Pointer) {
    if (isOwned && files.exists(at(Pointer))) {
      pointed().reverse.map(step => s"ckpt-$step.safetensors").find(name => files.exists(at(name)))
    } else None
  }

  /** The steps that the pointer names, in order. */
  private def pointed(): Seq[Long] = PointerLine.findAllMatchIn(read(Pointer)).map(_.group(1).toLong).toSeq.sorted

  /** Deletes the checkpoints that are older than those to keep, and later ones, which other runs left. */
  private def prune(): Unit = {
    val newest = pointed().last
    val found = files.listStatus(root).toSeq.map(_.getPath.getName).collect { case name @ CheckpointName(step) => step.toLong -> name }
    val kept = found.map(_._1).filter(_ <= newest).sorted.takeRight(keep)
    found.filterNot { case (step, _) => kept.contains(step) }.foreach { case (_, name) => files.delete(at(name), false) }
  }

  /** Copies `name` to the local file. */
  def fetch(name: String, local: LocalPath): Unit =
    storing(name)(Using.resource(files.open(at(name)))(Files.copy(_, local)))

  /** Makes the directory this run's own: an older run's checkpoint no longer counts. */
  private lazy val claimed: Unit =
    if (!isOwned) {
      files.delete(at(Pointer), false)
      write(RunFile)(_.write(compact("run_id" -> runId).getBytes(UTF_8)))
    }

  private def isOwned: Boolean =
    files.exists(at(RunFile)) && parse(read(RunFile)) \ "run_id" == JString(runId)

  private def at(name: String): Path = new Path(root, name)

  private def read(name: String): String =
    Using.resource(files.open(at(name)))(stream => new String(stream.readAllBytes(), UTF_8))

  private def write(name: String)(body: java.io.OutputStream => Unit): Unit = {
    val target = at(name)
    val temporary = new Path(target.getParent, s".${target.getName}.tmp")
    Using.resource(files.create(temporary, true))(body)
    rename(temporary, target)
  }

  private def rename(from: Path, to: Path): Unit =
    files match {
      case _: RawLocalFileSystem =>
        if (!files.rename(from, to)) throw new IOException(s"cannot rename $from to $to")
      case _ => FileContext.getFileContext(files.getUri, conf).rename(from, to, Options.Rename.OVERWRITE)
    }

  private def storing[T](name: String)(body: => T): T =
    try body
    catch {
      case error: IOException => throw new StorageException(s"${at(name)}: ${error.getMessage}", error)
    }
}

private[train] object ModelDirectory {
  private val Pointer = "checkpoint"
  private val RunFile = "run.json"
  private val CheckpointName = """ckpt-(\d+)\.safetensors""".r

  /**
   * TensorFlow's checkpoint state, which names checkpoints without their files' ending. It may be
   * ahead of the files when the task that copied them was killed.
   */
  private val PointerLine = """model_checkpoint_paths?:\s*"ckpt-(\d+)"""".r
}
