// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.{FileNotFoundException, IOException, InterruptedIOException, OutputStream}
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.{Files, StandardCopyOption, Path => LocalPath}

import scala.util.Using

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.{ChecksumFileSystem, FileContext, FileSystem, Options, Path, RawLocalFileSystem}

import io.flambeau.{ConfigException, StorageException}

/**
 * The directory of one model, on any file system Hadoop knows. A file appears whole or not at all:
 * it is written under a temporary name and renamed. `checkpoint` points to the newest checkpoint, and
 * says of which run; what it points to counts until a newer one is there.
 *
 * @param keep how many of the newest checkpoints stay, whichever attempt left them
 */
private[train] final class ModelDirectory(location: String, owner: ModelDirectory.Owner, conf: Configuration, keep: Int) {
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
      val probe = at(s".${owner.run}.tmp")
      files.create(probe, true).close()
      files.delete(probe, false)
    } catch {
      case error @ (_: IOException | _: IllegalArgumentException) =>
        throw new ConfigException(
          s"modelDir $location cannot be written: ${error.getMessage}. Try: a directory that this user may write",
          error)
    }

  /**
   * Copies the local file to `name`, replacing what is there. A pointer that is older than the one
   * there is left out: a later attempt has gone on.
   *
   * @throws ConfigException if another run has left a checkpoint here since this one began
   */
  def commit(local: LocalPath, name: String): Unit = storing(name) {
    if (name == Pointer) commitPointer(Files.readString(local))
    else {
      checkOwned(pointer())
      write(name)(Files.copy(local, _))
    }
  }

  /** Deletes `name`, if it is there. */
  def remove(name: String): Unit = storing(name) {
    checkOwned(pointer())
    files.delete(at(name), false)
  }

  /** The newest checkpoint that this run, or the one that it goes on from, has committed. */
  def checkpoint(): Option[String] = storing(Pointer)(pointer().filter(owner.goesOnFrom).flatMap(existing).map(nameOf))

  /**
   * This run as the owner of what is here.
   *
   * @param resume whether it goes on where a run was interrupted
   */
  def succession(resume: Boolean): Owner = storing(Pointer) {
    val found = pointer()
    owner.copy(predecessor = found.map(_.run), goesOn = resume && found.exists(run => !run.hasEnded && existing(run).isDefined))
  }

  /**
   * Takes down that the run has ended well: nobody goes on from its checkpoint, nor from one that it needed
   * no step to go on from.
   */
  def end(): Unit = storing(Pointer) {
    pointer().filter(owner.goesOnFrom).foreach(own => write(own.copy(run = owner.run, hasEnded = true)))
  }

  /** The newest of the steps that `pointer` names whose checkpoint is there. */
  private def existing(pointer: CheckpointPointer): Option[Long] =
    pointer.steps.reverse.find(step => files.exists(at(nameOf(step))))

  private def commitPointer(text: String): Unit = {
    val found = pointer()
    checkOwned(found)
    val own = CheckpointPointer(owner.run, hasEnded = false, text)
    if (!found.filter(_.run == owner.run).flatMap(existing).exists(_ > own.steps.last)) {
      write(own)
      prune(own, others = !found.exists(owner.goesOnFrom))
    }
  }

  /**
   * Deletes the checkpoints that are older than those to keep, and later ones, which are of a run
   * before; with `others` all that the pointer does not name. Half-written ones go, too.
   */
  private def prune(pointer: CheckpointPointer, others: Boolean): Unit = {
    val names = files.listStatus(root).toSeq.map(_.getPath.getName)
    val found = names.collect { case CheckpointName(step) => step.toLong }
    val own = found.filter(step => step <= pointer.steps.last && (!others || pointer.steps.contains(step)))
    val old = found.diff(own.sorted.takeRight(keep)).map(nameOf)
    (old ++ names.filter(HalfWritten.matches)).foreach(name => files.delete(at(name), false))
  }

  /**
   * After which steps there are checkpoints of this run, and of the one that it goes on from, in order; and
   * whether this run has ended well.
   */
  def progress(): (Seq[Long], Boolean) = storing(Pointer) {
    pointer().filter(owner.goesOnFrom).fold((Seq.empty[Long], false))(own => (own.steps, own.hasEnded))
  }

  /** Copies the checkpoint after so many steps to the local file: whether it was still there. */
  def fetchIfKept(step: Long, local: LocalPath): Boolean = storing(nameOf(step)) {
    try {
      Using.resource(files.open(at(nameOf(step))))(Files.copy(_, local, StandardCopyOption.REPLACE_EXISTING))
      true
    } catch { case _: FileNotFoundException => false }
  }

  /** Puts `bytes` in place of what `name` holds. */
  def replace(name: String, bytes: Array[Byte]): Unit = storing(name) {
    checkOwned(pointer())
    write(name)(_.write(bytes))
  }

  /** Copies `name` to the local file. */
  def fetch(name: String, local: LocalPath): Unit =
    storing(name)(Using.resource(files.open(at(name)))(Files.copy(_, local)))

  private def checkOwned(found: Option[CheckpointPointer]): Unit =
    found.filterNot(owner.mayReplace).foreach { other =>
      throw new ConfigException(
        s"${at(Pointer)}: run ${other.run} has left a checkpoint here since run ${owner.run} began: another fit trains into this modelDir. " +
          "Try: a modelDir for each")
    }

  private def at(name: String): Path = new Path(root, name)

  private def pointer(): Option[CheckpointPointer] =
    if (files.exists(at(Pointer))) {
      val text = Using.resource(files.open(at(Pointer)))(stream => new String(stream.readAllBytes(), UTF_8))
      CheckpointPointer.read(text)
    } else None

  private def write(pointer: CheckpointPointer): Unit = write(Pointer)(_.write(pointer.text.getBytes(UTF_8)))

  private def write(name: String)(body: OutputStream => Unit): Unit = {
    val target = at(name)
    val temporary = new Path(target.getParent, s".${target.getName}.tmp")
    Using.resource(files.create(temporary, true))(body)
    // A late one may be in the way of a later attempt.
    if (Thread.currentThread.isInterrupted) throw new InterruptedIOException("the task has ended meanwhile")
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
  private val HalfWritten = """\.ckpt-\d+\.safetensors\.tmp""".r
  private val CheckpointName = """ckpt-(\d+)\.safetensors""".r

  private def nameOf(step: Long): String = s"ckpt-$step.safetensors"

  /**
   * A run that writes to a directory.
   *
   * @param predecessor whose checkpoint was there when it began; it may be replaced
   * @param goesOn whether the run goes on from that checkpoint
   */
  final case class Owner(run: String, predecessor: Option[String] = None, goesOn: Boolean = false) {
    private[ModelDirectory] def mayReplace(found: CheckpointPointer): Boolean =
      found.run == run || predecessor.contains(found.run)

    private[ModelDirectory] def goesOnFrom(found: CheckpointPointer): Boolean =
      found.run == run || goesOn && predecessor.contains(found.run)
  }
}
