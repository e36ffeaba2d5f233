// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import java.nio.file.{Files, Path}
import java.util.Optional

import scala.jdk.CollectionConverters._

import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.NativeLoadException

class LibtorchSearchSuite extends AnyFunSuite {

  private def folder(parent: Path, path: String, files: String*): Path = {
    val made = Files.createDirectories(parent.resolve(path))
    files.foreach(name => Files.createFile(made.resolve(name)))
    made
  }

  private def temporary(): Path = Files.createTempDirectory("flambeau-search").toRealPath()

  private def search(named: Option[Path], roots: Seq[Path], python: String): Seq[Path] = {
    val libtorch = named.fold(Optional.empty[String])(path => Optional.of(path.toString))
    new LibtorchSearch().libraries(new NativeSettings(libtorch, roots.asJava, python, temporary())).asScala.toSeq
  }

  private def fakePython(parent: Path, torch: Path): String = {
    val script = Files.writeString(parent.resolve("python"), s"#!/bin/sh\necho $torch\n")
    script.toFile.setExecutable(true)
    script.toString
  }

  test("a named folder is used with its companions in load order") {
    val inOrder = Seq("libgomp.so.1", "libcudart.so.13", "libcupti.so.13", "libc10.so", "libtorch_cpu.so")
    val torch = folder(temporary(), "torch", inOrder.reverse: _*)
    assert(search(Some(torch), Seq.empty, "no-python").map(_.getFileName.toString) == inOrder)
  }

  test("a named folder may be the one above lib") {
    val home = temporary()
    val lib = folder(home, "lib", "libtorch_cpu.so", "libc10.so")
    assert(search(Some(home), Seq.empty, "no-python") == Seq("libc10.so", "libtorch_cpu.so").map(lib.resolve(_)))
  }

  test("an archive's folder is found before Python's") {
    val root = temporary()
    val archive = folder(root, "libtorch", "libtorch_cpu.so", "libc10.so")
    val other = folder(temporary(), "torch/lib", "libtorch_cpu.so", "libc10.so")
    assert(search(None, Seq(root), fakePython(root, other.getParent)).last == archive.resolve("libtorch_cpu.so"))
  }

  test("Python's torch brings the CUDA runtime from the wheels beside it") {
    val site = temporary()
    folder(site, "torch/lib", "libtorch_cpu.so", "libc10.so")
    val cuda = folder(site, "nvidia/cu13/lib", "libcudart.so.13")
    val found = search(None, Seq.empty, fakePython(site, site.resolve("torch")))
    assert(found.head == cuda.resolve("libcudart.so.13"))
  }

  test("a libtorch of another release is passed over, by what wheel and archive say of themselves") {
    val site = temporary()
    folder(site, "torch/lib", "libtorch_cpu.so", "libc10.so")
    val version = site.resolve("torch/version.py")
    def inPython = search(None, Seq.empty, fakePython(site, site.resolve("torch")))
    Files.writeString(version, "from typing import Optional\n__version__ = '2.12.1+cu130'\ncuda = '13.0'\n")
    assert(intercept[NativeLoadException](inPython).getMessage.contains("libtorch 2.12.1, not 2.11.0"))
    Files.writeString(version, "__version__ = '2.11.0+cu130'\n")
    assert(inPython.length == 2)

    val root = temporary()
    val lib = folder(root, "archive/lib", "libtorch_cpu.so", "libc10.so")
    Files.writeString(root.resolve("archive/build-version"), "2.10.0+cpu\n")
    val error = intercept[NativeLoadException](search(Some(lib), Seq.empty, "no-python"))
    assert(error.getMessage.contains(s"spark.flambeau.libtorch=$lib: libtorch 2.10.0, not 2.11.0"))
  }

  test("what is missing is told with every place and the fix") {
    val root = temporary()
    val error = intercept[NativeLoadException](search(None, Seq(root), "no-such-python"))
    assert(error.getMessage.contains(s"--archives under $root"))
    assert(error.getMessage.contains("no-such-python"))
    assert(error.getMessage.contains("pip install torch==2.11.0"))
    assert(error.getMessage.contains("spark.flambeau.libtorch"))
  }

  test("a named folder that has no libtorch is an error, not a reason to look elsewhere") {
    val empty = temporary()
    val error = intercept[NativeLoadException](search(Some(empty), Seq.empty, "python3"))
    assert(error.getMessage.contains(s"spark.flambeau.libtorch=$empty") && !error.getMessage.contains("python3:"))
  }
}
