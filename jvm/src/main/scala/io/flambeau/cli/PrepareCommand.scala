// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.hadoop.fs.Path
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.UnsafeArrayData
import org.apache.spark.sql.types.{ArrayType, LongType, StructType}

import io.flambeau.{ConfigException, DataException}

/**
 * Turns IDX files into what training reads: CSV with the header `label,p0,p1,...`, and TFRecords
 * with `label` Int64[1] and `image` Int64[pixels].
 */
private[cli] object PrepareCommand extends Command {
  override val name = "prepare"
  override val meaning = "write IDX images and labels as CSV and TFRecord"

  override val flags: Seq[Flag] = Seq(
    Flag("data", "directory with MNIST's four files (train-images-idx3-ubyte.gz, ...); writes train and test"),
    Flag("images", "one IDX file of images, with --labels, instead of --data"),
    Flag("labels", "its IDX file of labels"),
    Flag("output", "directory to write csv/ and tfr/ to; neither may exist", required = true),
    Flag("partitions", "files of each table", default = Some("10")))

  private val Schema = new StructType().add("label", LongType).add("image", ArrayType(LongType, containsNull = false))

  /** Consecutive images with their labels. */
  private final case class Chunk(labels: Array[Byte], pixels: Array[Byte]) {
    def items: Iterator[(Int, Array[Byte])] =
      labels.iterator.map(_ & 0xff).zip(pixels.grouped(pixels.length / labels.length))
  }

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val output = arguments("output")
    val partitions = arguments.count("partitions")
    for ((split, images, labels) <- sources(arguments)) {
      val csv = absent(spark, s"$output/csv$split")
      val tfr = absent(spark, s"$output/tfr$split")
      val conf = spark.sparkContext.hadoopConfiguration
      val (chunks, pixels) = paired(images, Idx.read(images, conf), labels, Idx.read(labels, conf), partitions)
      val rows = spark.sparkContext.parallelize(chunks, chunks.size)
      saveCsv(rows, pixels, csv)
      TfRecordFiles.save(rows.mapPartitions(_.flatMap(examples)), Schema, tfr)
      out.println(s"${chunks.map(_.labels.length).sum} images of $pixels pixels: $csv, $tfr")
    }
  }

  private def sources(arguments: Arguments): Seq[(String, String, String)] =
    (arguments.get("data"), arguments.get("images"), arguments.get("labels")) match {
      case (Some(data), None, None) =>
        Seq("train" -> "train", "test" -> "t10k").map { case (split, prefix) =>
          (s"/$split", s"$data/$prefix-images-idx3-ubyte.gz", s"$data/$prefix-labels-idx1-ubyte.gz")
        }
      case (None, Some(images), Some(labels)) => Seq(("", images, labels))
      case _ => throw new UsageException("prepare needs either --data, or --images and --labels")
    }

  private def absent(spark: SparkSession, directory: String): String = {
    val path = new Path(directory)
    if (path.getFileSystem(spark.sparkContext.hadoopConfiguration).exists(path)) {
      throw new ConfigException(s"$directory exists already. Try: delete it, or another --output")
    }
    directory
  }

  private def paired(
      imagesPath: String, images: Idx, labelsPath: String, labels: Idx, partitions: Int): (Seq[Chunk], Int) = {
    if (images.count != labels.count || labels.itemSize != 1) {
      throw new DataException(
        s"$imagesPath has ${images.count} images, but $labelsPath has ${labels.dimensions.mkString(" x ")} labels")
    }
    if (images.count == 0 || images.itemSize == 0) throw new DataException(s"$imagesPath has no pixels")
    val size = (images.count + partitions - 1) / partitions
    val chunks = labels.values.grouped(size).zip(images.values.grouped(size * images.itemSize))
    (chunks.map { case (some, theirs) => Chunk(some, theirs) }.toSeq, images.itemSize)
  }

  private def saveCsv(chunks: RDD[Chunk], pixels: Int, directory: String): Unit = {
    val header = ("label" +: Seq.tabulate(pixels)(index => s"p$index")).mkString(",")
    chunks
      .mapPartitions(part => Iterator(header) ++ part.flatMap(_.items).map((line _).tupled))
      .saveAsTextFile(directory)
  }

  private def line(label: Int, image: Array[Byte]): String = {
    val text = new StringBuilder().append(label)
    image.foreach(pixel => text.append(',').append(pixel & 0xff))
    text.toString
  }

  private def examples(chunk: Chunk): Iterator[InternalRow] = chunk.items.map { case (label, image) =>
    InternalRow(label.toLong, UnsafeArrayData.fromPrimitiveArray(image.map(pixel => (pixel & 0xff).toLong)))
  }
}
