// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}

import scala.jdk.CollectionConverters._

import org.apache.hadoop.conf.Configuration
import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.{ConfigException, StorageException}

class ModelDirectorySuite extends AnyFunSuite {
  private def directory(folder: Path, run: String, conf: Configuration = new Configuration): ModelDirectory =
    owned(folder, ModelDirectory.Owner(run), conf)

  private def owned(folder: Path, owner: ModelDirectory.Owner, conf: Configuration = new Configuration): ModelDirectory =
    new ModelDirectory(folder.toUri.toString, owner, conf, keep = 2)

  /** What a run that begins now writes through. */
  private def begun(folder: Path, run: String, resume: Boolean): ModelDirectory =
    owned(folder, directory(folder, run).succession(resume))

  /** Leaves the checkpoint of a step whose content says of which run it is, as rank 0 does. */
  private def checkpoint(directory: ModelDirectory, run: String, steps: Int*): Unit = {
    directory.commit(local(s"$run after ${steps.last}"), s"ckpt-${steps.last}.safetensors")
    directory.commit(local(pointer(steps: _*)), "checkpoint")
  }

  private def pointer(steps: Int*): String =
    (("path", steps.last) +: steps.map("paths" -> _)).map { case (key, step) => s"model_checkpoint_$key: \"ckpt-$step\"\n" }.mkString

  private def steps(folder: Path): Set[Int] =
    names(folder).collect { case s"ckpt-$step.safetensors" => step.toInt }

  private def content(folder: Path, directory: ModelDirectory): Option[String] =
    directory.checkpoint().map(name => Files.readString(folder.resolve(name)))

  private def temporary(): Path = Files.createTempDirectory("flambeau-model")

  private def local(text: String): Path = Files.writeString(Files.createTempFile("flambeau", ".bin"), text)

  private def names(folder: Path): Set[String] =
    Files.walk(folder).iterator.asScala.filter(Files.isRegularFile(_)).map(folder.relativize(_).toString).toSet

  test("a committed file replaces the old one and leaves nothing beside it") {
    val folder = temporary()
    val model = directory(folder, "run-1")
    model.checkWritable()
    assert(names(folder).isEmpty)
    model.commit(local("old"), "export/model.keras")
    model.commit(local("new"), "export/model.keras")
    assert(Files.readString(folder.resolve("export/model.keras")) == "new")
    assert(names(folder) == Set("export/model.keras"))
    model.remove("export/model.keras")
    model.remove("export/model.keras")
    assert(names(folder).isEmpty)
  }

  test("the newest checkpoint is the newest that is there, of the same run, whichever attempt asks") {
    val folder = temporary()
    val first = directory(folder, "run-1")
    assert(first.checkpoint().isEmpty)
    first.commit(local("weights"), "ckpt-469.safetensors")
    assert(first.checkpoint().isEmpty)
    first.commit(local(pointer(469, 938)), "checkpoint")
    val attempt = directory(folder, "run-1")
    assert(attempt.checkpoint().contains("ckpt-469.safetensors"))
    attempt.fetch("ckpt-469.safetensors", folder.resolve("copy"))
    assert(Files.readString(folder.resolve("copy")) == "weights")
    assert(directory(folder, "run-2").checkpoint().isEmpty)
  }

  test("the newest checkpoints stay, whichever attempt left them") {
    val folder = temporary()
    Seq(10, 20, 30).foreach(step => checkpoint(directory(folder, "run-1"), "run-1", step))
    assert(steps(folder) == Set(20, 30))
  }

  test("a run goes on from the checkpoint of one that was interrupted, and all of it stays until there is a newer one") {
    val folder = temporary()
    val first = begun(folder, "run-1", resume = true)
    assert(first.checkpoint().isEmpty)
    Seq(10, 20).foreach(step => checkpoint(first, "run-1", step))
    first.commit(local("not pointed to"), "ckpt-30.safetensors")

    val second = begun(folder, "run-2", resume = true)
    second.commit(local("{}"), "model.json")
    assert(content(folder, second).contains("run-1 after 20") && steps(folder) == Set(10, 20, 30))
    // One that is interrupted before it has a checkpoint leaves the next one what it found.
    val third = begun(folder, "run-3", resume = true)
    assert(content(folder, third).contains("run-1 after 20"))
    checkpoint(third, "run-3", 25)
    assert(content(folder, third).contains("run-3 after 25") && steps(folder) == Set(20, 25))
  }

  test("a run that starts anew leaves nothing of the one before, once it has a checkpoint") {
    val folder = temporary()
    val first = directory(folder, "run-1")
    Seq(2, 30).foreach(step => checkpoint(first, "run-1", step))
    val anew = begun(folder, "run-2", resume = false)
    assert(anew.checkpoint().isEmpty)
    anew.commit(local("{}"), "model.json")
    assert(content(folder, first).contains("run-1 after 30") && steps(folder) == Set(2, 30))
    checkpoint(anew, "run-2", 5)
    assert(content(folder, anew).contains("run-2 after 5") && steps(folder) == Set(5))
  }

  test("nobody goes on from a run that has ended") {
    val folder = temporary()
    val first = directory(folder, "run-1")
    checkpoint(first, "run-1", 10)
    first.end()
    assert(begun(folder, "run-2", resume = true).checkpoint().isEmpty)
    // But an attempt of its own does, if another rank has failed after all.
    assert(directory(folder, "run-1").checkpoint().contains("ckpt-10.safetensors"))
  }

  test("a late writer of an attempt before does not make its older checkpoint the newest") {
    val folder = temporary()
    val (late, attempt) = (directory(folder, "run-1"), directory(folder, "run-1"))
    checkpoint(late, "run-1", 10)
    Seq(20, 30).foreach(step => checkpoint(attempt, "run-1", step))
    checkpoint(late, "run-1", 10, 15)
    assert(directory(folder, "run-1").checkpoint().contains("ckpt-30.safetensors"))
    checkpoint(attempt, "run-1", 20, 30, 40)
    assert(steps(folder) == Set(30, 40))
  }

  test("a late writer of a run before is refused as soon as the next one has a checkpoint") {
    val folder = temporary()
    val late = begun(folder, "run-1", resume = true)
    checkpoint(late, "run-1", 10)
    val next = begun(folder, "run-2", resume = true)
    checkpoint(late, "run-1", 10, 20)
    assert(content(folder, next).contains("run-1 after 20"))
    checkpoint(next, "run-2", 15)
    val error = intercept[ConfigException](checkpoint(late, "run-1", 10, 20, 30))
    assert(error.getMessage.contains("run run-2 has left a checkpoint here") && error.getMessage.contains("a modelDir for each"))
    assert(content(folder, next).contains("run-2 after 15") && steps(folder) == Set(10, 15))
  }

  test("wherever the copy of a checkpoint ends, the directory reads as the old one or the new one") {
    val before = Set("run-1 after 10", "run-1 after 20")
    var (operations, old) = (0, 0)
    var isDone = false
    while (!isDone) {
      val folder = temporary()
      val good = directory(folder, "run-1")
      checkpoint(good, "run-1", 5)
      checkpoint(good, "run-1", 5, 10)
      val faulty = directory(folder, "run-1", FaultyFileSystem.configuration)
      isDone = FaultyFileSystem.allowing(operations)(checkpoint(faulty, "run-1", 10, 20))
      val found = content(folder, directory(folder, "run-1"))
      assert(found.exists(before.contains), s"after $operations operations: $found")
      if (found.contains("run-1 after 10")) old += 1
      // The next commit leaves what belongs there, and nothing else.
      checkpoint(directory(folder, "run-1"), "run-1", 20, 30)
      assert(content(folder, good).contains("run-1 after 30"))
      val expected = if (steps(folder).contains(20)) Set(20, 30) else Set(10, 30)
      assert(names(folder) == expected.map(step => s"ckpt-$step.safetensors") + "checkpoint", s"after $operations operations")
      operations += 1
    }
    assert(operations > 10 && old > 5 && old < operations, s"$operations operations, $old of them before the new one counts")
  }

  test("a directory that cannot be written is refused with its path and the cause") {
    val blocked = local("a file").resolve("model")
    val error = intercept[ConfigException](directory(blocked, "run-1").checkWritable())
    assert(error.getMessage.contains(blocked.toString) && error.getMessage.contains("cannot be written"))
    val unknown = new ModelDirectory("nosuch://host/model", ModelDirectory.Owner("run-1"), new Configuration, keep = 2)
    val scheme = intercept[ConfigException](unknown.checkWritable())
    assert(scheme.getMessage.contains("nosuch"))
  }

  test("a file that cannot be fetched is named") {
    val folder = temporary()
    val error = intercept[StorageException](directory(folder, "run-1").fetch("ckpt-1", folder.resolve("copy")))
    assert(error.getMessage.contains("ckpt-1"))
  }
}
