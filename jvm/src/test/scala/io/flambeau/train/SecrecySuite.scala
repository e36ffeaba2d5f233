// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}
import java.security.{Provider, SecureRandomSpi, Security}
import java.util.Base64

import scala.jdk.CollectionConverters._

import org.scalatest.time.SpanSugar._

import io.flambeau.{DataException, Samples, SparkSuite}

/** The job's secret is looked for wherever Spark writes: event log, logs of the executors, exceptions. */
class SecrecySuite extends SparkSuite("local-cluster[2,1,1024]") {
  private lazy val events = temporaryDirectory()

  override protected def settings: Map[String, String] = Map(
    "spark.eventLog.enabled" -> "true",
    "spark.eventLog.dir" -> events.toUri.toString,
    "spark.authenticate" -> "true",
    "spark.authenticate.secret" -> SecrecySuite.OfSpark,
    "spark.network.crypto.enabled" -> "true")

  /** Makes every SecureRandom of this process give the same bytes, to know the secret. */
  private def withKnownRandom[T](body: => T): T = {
    Security.insertProviderAt(new KnownRandom, 1)
    try body
    finally Security.removeProvider(KnownRandom.Name)
  }

  test("the secret of a fit is in no log, no event and no message") {
    failAfter(180.seconds) {
      val data = Samples.points(spark, 400, 2)
      val message = withKnownRandom {
        Samples.estimator(2).fit(data)
        val wrong = data.selectExpr("*", "label + 9 AS other").drop("label").withColumnRenamed("other", "label")
        intercept[DataException](Samples.estimator(2).fit(wrong)).toString
      }
      val executors = ProcessHandle.current.children.iterator.asScala
        .filter(_.info.command.orElse("").endsWith("java"))
        .map(process => Files.readSymbolicLink(Path.of(s"/proc/${process.pid}/cwd")))
        .toSeq
      assert(executors.length == 2)
      spark.stop()
      val written = (executors :+ events).flatMap(folder => files(folder)).map(file => file -> Files.readAllBytes(file))
      assert(written.exists { case (file, bytes) => file.startsWith(events) && bytes.length > 1000 })
      assert(written.exists { case (file, bytes) => file.endsWith("stderr") && bytes.length > 100 })
      val all = written :+ (Path.of("the exception") -> message.getBytes)
      for ((file, bytes) <- all; form <- SecrecySuite.forms) {
        assert(new String(bytes, "ISO-8859-1").toLowerCase.indexOf(form.toLowerCase) < 0, s"$form is in $file")
      }
    }
  }

  private def files(folder: Path): Seq[Path] = {
    val found = Files.walk(folder)
    try found.iterator.asScala.filter(file => Files.isRegularFile(file) && !file.toString.endsWith(".jar")).toSeq
    finally found.close()
  }
}

private object SecrecySuite {
  val OfSpark = "spark-secret-91f3c6"

  /** Thirty-two bytes as a log may show them, or a part of them. */
  val forms: Seq[String] = {
    val bytes = Array.fill(32)(KnownRandom.Byte)
    val hex = bytes.map(byte => f"$byte%02x")
    Seq(
      OfSpark,
      hex.take(16).mkString,
      hex.take(16).mkString(" "),
      hex.take(16).mkString(":"),
      Base64.getEncoder.encodeToString(bytes).take(20),
      bytes.take(16).mkString(", "),
      new String(bytes.take(16), "ISO-8859-1"))
  }
}

/** A source of randomness that always gives the same byte. */
final class KnownRandom extends Provider(KnownRandom.Name, "1", "for a test") {
  put("SecureRandom.Known", classOf[KnownRandomSpi].getName)
}

object KnownRandom {
  val Name = "KnownRandom"
  val Byte: Byte = 0x5b
}

final class KnownRandomSpi extends SecureRandomSpi {
  override protected def engineSetSeed(seed: Array[Byte]): Unit = ()
  override protected def engineNextBytes(bytes: Array[Byte]): Unit = java.util.Arrays.fill(bytes, KnownRandom.Byte)
  override protected def engineGenerateSeed(count: Int): Array[Byte] = Array.fill(count)(KnownRandom.Byte)
}
