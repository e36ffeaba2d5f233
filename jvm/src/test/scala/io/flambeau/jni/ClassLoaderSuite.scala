// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import java.net.{URL, URLClassLoader}
import java.nio.file.{Files, Path}
import java.util.Optional

import org.scalatest.funsuite.AnyFunSuite

class ClassLoaderSuite extends AnyFunSuite {
  private val classes = Path.of(sys.props("flambeau.test.classes")).toUri.toURL

  /** Sees Flambeau's classes on its own and everything else through the suite's loader. */
  private class OwnFlambeau extends URLClassLoader(Array[URL](classes), getClass.getClassLoader) {
    override def loadClass(name: String, resolve: Boolean): Class[_] =
      if (name.startsWith("io.flambeau")) Option(findLoadedClass(name)).getOrElse(findClass(name))
      else super.loadClass(name, resolve)
  }

  private def load(scratch: Path): String = {
    val loader = new OwnFlambeau
    val settingsClass = loader.loadClass("io.flambeau.jni.NativeSettings")
    val settings = settingsClass.getConstructors.head.newInstance(
      Optional.of(sys.props("flambeau.test.libtorch")), java.util.List.of(), "no-python", scratch)
    val method = loader.loadClass("io.flambeau.jni.NativeLoader").getMethod("load", settingsClass)
    method.invoke(null, settings).toString
  }

  test("several class loaders of one JVM load the library, each its own copy, and leave none behind") {
    val scratch = Files.createTempDirectory("flambeau-scratch")
    val versions = Seq.fill(3)(load(scratch))
    assert(versions.distinct.size == 1)
    assert(scratch.toFile.list().isEmpty)
  }
}
