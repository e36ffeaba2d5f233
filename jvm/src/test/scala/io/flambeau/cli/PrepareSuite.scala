// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.{ByteArrayOutputStream, PrintStream}
import java.nio.ByteBuffer
import java.nio.file.{Files, Path}

import io.flambeau.SparkSuite

class PrepareSuite extends SparkSuite {
  private val images = 5

  private def write(folder: Path, name: String, dimensions: Seq[Int], values: Array[Byte]): String = {
    val header = ByteBuffer.allocate(4 + 4 * dimensions.length).putInt(0x800 + dimensions.length)
    dimensions.foreach(header.putInt(_))
    Files.write(folder.resolve(name), header.array ++ values).toString
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

  test("images become CSV with a header and TFRecords, in files that are whole") {
    val folder = temporaryDirectory()
    val (code, text) = prepare(folder)
    assert(code == 0, text)
    val csv = folder.resolve("out/csv").toString
    val table = spark.read.option("header", "true").option("inferSchema", "true").csv(csv)
    assert(table.columns.toSeq == Seq("label", "p0", "p1", "p2", "p3"))
    val second = table.orderBy("label").collect().map(_.getInt(2)).toSeq
    assert(second == (0 until images).map(image => (image * 4 + 1) * 50 % 256))
    val records = folder.resolve("out/tfr").toFile.list().filterNot(_.endsWith(".crc")).sorted.toSeq
    assert(records == Seq("_SUCCESS", "part-r-00000", "part-r-00001"))
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
