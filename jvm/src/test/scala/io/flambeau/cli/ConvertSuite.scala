// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.{ByteArrayInputStream, ByteArrayOutputStream, PrintStream}
import java.nio.file.{Files, Path}
import javax.imageio.ImageIO

import org.apache.spark.sql.functions._
import org.scalatest.BeforeAndAfterAll

import io.flambeau.SparkSuite

class ConvertSuite extends SparkSuite with BeforeAndAfterAll {
  private val (count, height, width) = (7, 3, 4)

  private def run(args: String*): (Int, String) = {
    val text = new ByteArrayOutputStream
    val stream = new PrintStream(text, true)
    (Main.run(args, stream, stream), text.toString)
  }

  private def convert(from: String, data: Path, to: String, output: Path, more: String*): String = {
    val (code, text) = run(
      Seq("convert", "--data", data.toString, "--from", from, "--to", to, "--output", output.toString) ++ more: _*)
    assert(code == 0, text)
    text
  }

  private def refused(from: String, data: Path, to: String, more: String*): String = {
    val output = temporaryDirectory().resolve("out").toString
    val (code, text) = run(Seq("convert", "--data", data.toString, "--from", from, "--to", to, "--output", output) ++ more: _*)
    assert(code == 1 || code == 2, text)
    text
  }

  private def pixels(image: Int): Seq[Int] = (0 until height * width).map(at => (image * 37 + at * 11) % 256)

  /** Two IDX files. */
  private def idx(folder: Path): (Path, Path) = {
    def write(name: String, dimensions: Seq[Int], values: Seq[Int]): Path = {
      val header = java.nio.ByteBuffer.allocate(4 + 4 * dimensions.length).putInt(0x800 + dimensions.length)
      dimensions.foreach(header.putInt(_))
      Files.write(folder.resolve(name), header.array ++ values.map(_.toByte))
    }
    (write("images", Seq(count, height, width), (0 until count).flatMap(pixels)), write("labels", Seq(count), 0 until count))
  }

  test("a file of images is a table, of which only the columns wanted are read") {
    val (images, labels) = idx(temporaryDirectory())
    val table = spark.read.format("idx").option("labels", labels.toString).option("partitions", "3").load(images.toString)
    assert(table.schema.simpleString == "struct<label:int,image:binary>")
    assert(table.rdd.getNumPartitions == 3 && table.count() == count)
    assert(table.select("label").collect().map(_.getInt(0)).toSeq == (0 until count))
    val read = table.select("image", "label").collect().map(row => (row.getInt(1), row.getAs[Array[Byte]](0).map(_ & 0xff).toSeq))
    assert(read.toSeq == (0 until count).map(image => (image, pixels(image))))
    assert(spark.read.format("idx").load(images.toString).columns.toSeq == Seq("image"))
    val more = intercept[Exception](spark.read.format("idx").option("partitions", "no").load(images.toString))
    assert(more.getMessage.contains("'no'"))
  }

  test("images go from IDX through every format and back") {
    val folder = temporaryDirectory()
    val (images, labels) = idx(folder)
    convert("idx", images, "tfrecord", folder.resolve("tfr"), "--idx-labels", labels.toString, "--compression", "gzip")
    convert("tfrecord", folder.resolve("tfr"), "parquet", folder.resolve("parquet"), "--partitions", "2")
    convert("parquet", folder.resolve("parquet"), "csv", folder.resolve("csv"))
    val csv = spark.read.option("header", "true").csv(folder.resolve("csv").toString)
    assert(csv.columns.toSet == (0 until height * width).map(at => s"image$at").toSet + "label")
    val stack = s"image=image0..image${height * width - 1}"
    convert("csv", folder.resolve("csv"), "tfrecord", folder.resolve("again"), "--stack", stack)
    val schema = spark.read.format("tfrecord").load(folder.resolve("again").toString).schema
    assert(schema("image").dataType.sql == "ARRAY<BIGINT>")
    val shape = s"$height,$width,1"
    convert("tfrecord", folder.resolve("again"), "images", folder.resolve("classes"), "--shape", shape)
    val back = convert("images", folder.resolve("classes"), "parquet", folder.resolve("files"))
    assert(back.contains("label, class, image"))
    for (row <- spark.read.parquet(folder.resolve("files").toString).collect()) {
      val image = ImageIO.read(new ByteArrayInputStream(row.getAs[Array[Byte]]("image")))
      val found = image.getRaster.getPixels(0, 0, width, height, null: Array[Int]).toSeq
      assert(found == pixels(row.getAs[Long]("label").toInt))
      assert(row.getAs[String]("class") == row.getAs[Long]("label").toString)
    }
    val sorted = folder.resolve("sorted")
    spark.read.format("tfrecord").load(folder.resolve("again").toString).coalesce(1).orderBy("label").write.parquet(sorted.toString)
    convert("parquet", sorted, "idx", folder.resolve("idx"), "--shape", shape)
    assert(Files.readAllBytes(folder.resolve("idx/images-idx3-ubyte")).toSeq == Files.readAllBytes(images).toSeq)
    assert(Files.readAllBytes(folder.resolve("idx/labels-idx1-ubyte")).toSeq == Files.readAllBytes(labels).toSeq)
  }

  test("what cannot be converted is said") {
    val folder = temporaryDirectory()
    val ragged = folder.resolve("ragged")
    spark.range(1, 4).select(col("id").as("label"), sequence(lit(1L), col("id")).as("image")).write.parquet(ragged.toString)
    assert(refused("parquet", ragged, "csv").contains("column 'image' has from 1 to 3 values"))
    assert(refused("parquet", ragged, "idx").contains("pixels, the first one has"))
    assert(refused("parquet", ragged, "images").contains("neither PNG nor JPEG"))
    assert(refused("parquet", ragged, "images", "--shape", "2,2,1").contains("is not 2 x 2 x 1"))
    assert(refused("parquet", ragged, "images", "--shape", "2,2").contains("--shape must be"))
    assert(refused("parquet", ragged, "tfrecord", "--columns", "labels").contains("no column 'labels'"))
    assert(refused("parquet", ragged, "tfrecord", "--stack", "all").contains("--stack must be"))
    assert(refused("images", folder, "tfrecord").contains("has no subfolders"))
    assert(refused("csv", folder.resolve("none"), "tfrecord").contains("cannot be read"))
    val large = folder.resolve("large")
    spark.range(1).selectExpr("array(300L) as image", "1 as label").write.parquet(large.toString)
    assert(refused("parquet", large, "idx").contains("300 is no pixel"))
  }
}
