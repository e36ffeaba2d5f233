// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.{ByteArrayOutputStream, PrintStream}
import java.nio.ByteBuffer
import java.nio.file.{Files, Path}
import java.util.zip.GZIPOutputStream

import scala.util.Using

import io.flambeau.SparkSuite

class PrepareSuite extends SparkSuite {
  private val images = 5

  private def write(folder: Path, name: String, dimensions: Seq[Int], values: Array[Byte]): String = {
    val header = ByteBuffer.allocate(4 + 4 * dimensions.length).putInt(0x800 + dimensions.length)
    dimensions.foreach(header.putInt(_))
    Files.write(folder.resolve(name), header.array ++ values).toString
  }

  private def packed(file: String): String = {
    Using.resource(new GZIPOutputStream(Files.newOutputStream(Path.of(s"$file.gz"))))(Files.copy(Path.of(file), _))
    s"$file.gz"
  }

  private def run(args: String*): (Int, String) = {
    val text = new ByteArrayOutputStream
    val stream = new PrintStream(text, true)
    (Main.run(args, stream, stream), text.toString)
  }

  private def prepare(folder: Path): (Int, String) = run(
    "prepare",
    "--images", write(folder, "images", Seq(images, 2, 2), Array.tabulate(images * 4)(index => (index * 50).toByte)),
    "--labels", write(folder, "labels", Seq(images), Array.tabulate(images)(_.toByte)),
    "--output", folder.resolve("out").toString,
    "--partitions", "2")

  test("what was prepared can be inspected") {
    val folder = temporaryDirectory()
    prepare(folder)
    val (code, text) = run("inspect", "--data", folder.resolve("out/tfr").toString, "--format", "tfrecord", "--records", "1")
    assert(code == 0, text)
    // Of the largest file, which Spark reads first.
    assert(text.linesIterator.toSeq == Seq(
      "2 files, 5 records",
      "  image  array<bigint>, 4 values",
      "  label  bigint",
      "| image [144, 194, 244, 38], label 2"))
    val (csvCode, csv) = run("inspect", "--data", folder.resolve("out/csv").toString)
    assert(csvCode == 0, csv)
    assert(csv.startsWith("2 files, 5 records"))
    assert(run("inspect", "--data", folder.resolve("none").toString)._1 == 1)
  }

  test("images become CSV with a header and TFRecords, in files that are whole") {
    val folder = temporaryDirectory()
    val (code, text) = prepare(folder)
    assert(code == 0, text)
    val csv = folder.resolve("out/csv").toString
    val table = spark.read.option("header", "true").option("inferSchema", "true").csv(csv)
    assert(table.columns.toSeq == Seq("label", "p0", "p1", "p2", "p3"))
    val second = table.orderBy("label").collect().map(_.getInt(2)).toSeq
    assert(second == (0 until images).map(image => (image * 4 + 1) * 50 % 256))
    val records = folder.resolve("out/tfr")
    val files = records.toFile.list().filterNot(_.endsWith(".crc")).sorted.toSeq
    assert(files.head == "_SUCCESS" && files.tail.map(_.take("part-00000".length)) == Seq("part-00000", "part-00001"))
    val read = spark.read.format("tfrecord").load(records.toString).orderBy("label").collect()
    assert(read.map(_.getAs[Long]("label")).toSeq == (0 until images))
    assert(read.map(_.getAs[Seq[Long]]("image")(1)).toSeq == second)
  }

  test("tasks read their own part of packed files, and carry none of it") {
    val folder = temporaryDirectory()
    val (count, pixels) = (300, 3000)
    val values = Array.tabulate(count * pixels)(index => (index / pixels + index % 7).toByte)
    val (code, text) = run(
      "prepare",
      "--images", packed(write(folder, "images", Seq(count, pixels), values)),
      "--labels", packed(write(folder, "labels", Seq(count), Array.tabulate(count)(_.toByte))),
      "--output", folder.resolve("out").toString,
      "--partitions", "3")
    assert(code == 0, text)
    assert(text.contains("300 images of 3000 pixels"))
    val lines = spark.sparkContext.textFile(folder.resolve("out/csv").toString).filter(!_.startsWith("label"))
    val firsts = lines.map(_.split(',').take(2).mkString(",")).collect().sorted.toSeq
    assert(firsts == (0 until count).map(image => s"${image % 256},${(image + image * pixels % 7) % 256}").sorted)
  }

  test("an output that is there already is refused with 1") {
    val folder = temporaryDirectory()
    Files.createDirectories(folder.resolve("out/csv"))
    val (code, text) = prepare(folder)
    assert(code == 1 && text.contains("exists already"))
  }

  test("images and labels that do not pair are refused") {
    val folder = temporaryDirectory()
    val (code, text) = run(
      "prepare",
      "--images", write(folder, "images", Seq(3, 1, 1), new Array[Byte](3)),
      "--labels", write(folder, "labels", Seq(2), new Array[Byte](2)),
      "--output", folder.resolve("out").toString)
    assert(code == 1 && text.contains("3 images") && text.contains("2 labels"))
  }
}
