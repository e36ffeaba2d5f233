// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import java.nio.file.{Files, Path}
import java.util.Optional

import scala.jdk.CollectionConverters._
import scala.jdk.OptionConverters._

import org.apache.spark.{SparkConf, SparkEnv, SparkFiles}
import org.apache.spark.sql.flambeau.SparkInternals

/** Loads the native library in the process that a Spark task or the driver runs in. */
object NativeLibrary {
  val LibtorchKey = "spark.flambeau.libtorch"

  /** @throws io.flambeau.NativeLoadException listing every place that was looked at and the fix */
  def load(): String = NativeLoader.load(settings(SparkEnv.get.conf))

  private def settings(conf: SparkConf): NativeSettings =
    new NativeSettings(libtorch(conf), archiveRoots, python(conf), SparkInternals.localRoot)

  private def libtorch(conf: SparkConf): Optional[String] =
    conf.getOption(LibtorchKey).filter(_.nonEmpty).toJava

  private def archiveRoots: java.util.List[Path] =
    Seq(Path.of(SparkFiles.getRootDirectory()), Path.of("").toAbsolutePath).filter(Files.isDirectory(_)).distinct.asJava

  /** The Python that PySpark's own workers would run. */
  private def python(conf: SparkConf): String =
    conf.getOption("spark.pyspark.python").orElse(sys.env.get("PYSPARK_PYTHON")).getOrElse("python3")
}
