// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import java.nio.file.{Files, Path}

import scala.jdk.CollectionConverters._
import scala.util.Using

import org.apache.spark.SparkException
import org.apache.spark.sql.DataFrame

import io.flambeau.{DataException, SparkSuite}
import io.flambeau.jni.Session

class TfRecordDamageSuite extends SparkSuite {
  private val rows = 1000

  /** One file of `rows` records, changed by `damage`. */
  private def damaged(compression: String)(damage: Array[Byte] => Array[Byte]): Path = {
    val folder = temporaryDirectory().resolve("records")
    spark.range(0, rows, 1, 1).selectExpr("id", "repeat('x', 50) as text").write
      .format("tfrecord").option("compression", compression).save(folder.toString)
    val files = Using.resource(Files.list(folder))(_.iterator.asScala.toSeq)
    val file = files.find(_.getFileName.toString.startsWith("part-")).get
    Files.delete(folder.resolve(s".${file.getFileName}.crc"))
    Files.write(file, damage(Files.readAllBytes(file)))
  }

  private def flipped(at: Int)(bytes: Array[Byte]): Array[Byte] = bytes.updated(at, (bytes(at) ^ 1).toByte)

  private def read(file: Path, options: (String, String)*): DataFrame =
    spark.read.format("tfrecord").schema("id bigint, text string").options(options.toMap).load(file.toString)

  private def causeOf(error: Throwable): DataException =
    Iterator.iterate(error)(_.getCause).takeWhile(_ != null).collectFirst { case data: DataException => data }.get

  private def refusal(data: DataFrame): String = causeOf(intercept[SparkException](data.collect())).getMessage

  test("a damaged record ends the job with path and offset") {
    val file = damaged("none")(flipped(60))
    val message = refusal(read(file))
    assert(message.contains(file.toString) && message.contains("checksum"), message)
  }

  test("a file that ends within a record ends the job") {
    val file = damaged("none")(_.dropRight(5))
    assert(refusal(read(file)).contains(file.toString))
  }

  test("damaged records are left out if they may be") {
    val file = damaged("none")(flipped(60))
    val ids = read(file, "mode" -> "PERMISSIVE").select("id").collect().map(_.getLong(0)).toSeq
    assert(ids == (1L until rows.toLong))
    val short = damaged("none")(_.dropRight(5))
    assert(read(short, "mode" -> "permissive").count() == rows - 1)
  }

  test("the plan tells how many records were left out") {
    val data = read(damaged("none")(flipped(60)), "mode" -> "PERMISSIVE")
    assert(data.collect().length == rows - 1)
    val metrics = data.queryExecution.executedPlan.collectLeaves().head.metrics
    assert(metrics("skippedRecords").value == 1)
  }

  test("inference meets damage like reading does") {
    val file = damaged("none")(flipped(60))
    val error = intercept[DataException](spark.read.format("tfrecord").load(file.toString))
    assert(error.getMessage.contains(file.toString))
    val inferred = spark.read.format("tfrecord").option("mode", "PERMISSIVE").load(file.toString)
    assert(inferred.schema.toDDL == "id BIGINT,text STRING")
  }

  test("inference leaves damaged files out if reading does") {
    val file = damaged("gzip")(bytes => bytes.take(bytes.length / 2))
    spark.range(2).write.format("tfrecord").mode("append").save(file.getParent.toString)
    val data = spark.read.format("tfrecord").option("ignoreCorruptFiles", "true").load(file.getParent.toString)
    assert(data.schema.toDDL == "id BIGINT" && data.count() >= 2)
  }

  for (compression <- Seq("gzip", "zlib", "zstd")) {
    test(s"a $compression file that is cut off ends the job with path and offset") {
      val file = damaged(compression)(bytes => bytes.take(bytes.length * 2 / 3))
      val message = refusal(read(file))
      assert(message.startsWith(s"file:$file: damaged $compression file") && message.contains("plain bytes"), message)
      assert(read(file, "ignoreCorruptFiles" -> "true").count() < rows)
    }

    test(s"a file that is no $compression file ends the job") {
      val file = damaged("none")(identity)
      assert(refusal(read(file, "compression" -> compression)).contains(s"damaged $compression file"))
    }
  }

  test("all members of a gzip file are read, and a damaged one is not taken for the end") {
    val twice = damaged("gzip")(bytes => bytes ++ bytes)
    assert(read(twice).count() == 2 * rows)
    val broken = damaged("gzip")(bytes => bytes ++ flipped(1)(bytes))
    assert(refusal(read(broken)).contains("damaged gzip file"))
  }

  test("a column of another type than its feature ends the job with both") {
    val file = damaged("none")(identity)
    val wrong = spark.read.format("tfrecord").schema("id string").load(file.toString)
    val message = refusal(wrong)
    assert(message.contains(file.toString) && message.contains("id"), message)
  }

  test("no session outlives a failed task") {
    refusal(read(damaged("none")(flipped(60))))
    assert(Session.live == 0)
  }
}
