// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}

import scala.jdk.CollectionConverters._

import org.apache.hadoop.conf.Configuration
import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.{ConfigException, StorageException}

class ModelDirectorySuite extends AnyFunSuite {
  private def directory(folder: Path, run: String): ModelDirectory =
    new ModelDirectory(folder.toUri.toString, run, new Configuration, keep = 2)

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
    assert(names(folder) == Set("run.json", "export/model.keras"))
    model.remove("export/model.keras")
    model.remove("export/model.keras")
    assert(names(folder) == Set("run.json"))
  }

  test("the newest checkpoint is the newest that is there, of the same run, whichever attempt asks") {
    val folder = temporary()
    val first = directory(folder, "run-1")
    assert(first.checkpoint().isEmpty)
    first.commit(local("weights"), "ckpt-469.safetensors")
    assert(first.checkpoint().isEmpty)
    val pointer = Seq("path" -> 938, "paths" -> 469, "paths" -> 938)
      .map { case (key, step) => s"model_checkpoint_$key: \"ckpt-$step\"\n" }
    first.commit(local(pointer.mkString), "checkpoint")
    val attempt = directory(folder, "run-1")
    assert(attempt.checkpoint().contains("ckpt-469.safetensors"))
    attempt.fetch("ckpt-469.safetensors", folder.resolve("copy"))
    assert(Files.readString(folder.resolve("copy")) == "weights")

    val rerun = directory(folder, "run-2")
    assert(rerun.checkpoint().isEmpty)
    rerun.commit(local("{}"), "model.json")
    assert(rerun.checkpoint().isEmpty && first.checkpoint().isEmpty)
  }

  test("the newest checkpoints stay, whichever attempt left them, and those of other runs go") {
    val folder = temporary()
    def checkpoint(run: String, step: Int): Unit = {
      directory(folder, run).commit(local("weights"), s"ckpt-$step.safetensors")
      directory(folder, run).commit(local(s"""model_checkpoint_path: "ckpt-$step""""), "checkpoint")
    }
    def steps(): Set[String] = names(folder).filter(_.startsWith("ckpt"))
    Seq(10, 20, 30).foreach(checkpoint("run-1", _))
    assert(steps() == Set("ckpt-20.safetensors", "ckpt-30.safetensors"))
    checkpoint("run-2", 5)
    assert(steps() == Set("ckpt-5.safetensors"))
    checkpoint("run-2", 5)
    assert(directory(folder, "run-2").checkpoint().contains("ckpt-5.safetensors"))
  }

  test("a directory that cannot be written is refused with its path and the cause") {
    val blocked = local("a file").resolve("model")
    val error = intercept[ConfigException](directory(blocked, "run-1").checkWritable())
    assert(error.getMessage.contains(blocked.toString) && error.getMessage.contains("cannot be written"))
    val unknown = new ModelDirectory("nosuch://host/model", "run-1", new Configuration, keep = 2)
    val scheme = intercept[ConfigException](unknown.checkWritable())
    assert(scheme.getMessage.contains("nosuch"))
  }

  test("a file that cannot be fetched is named") {
    val folder = temporary()
    val error = intercept[StorageException](directory(folder, "run-1").fetch("ckpt-1", folder.resolve("copy")))
    assert(error.getMessage.contains("ckpt-1"))
  }
}
