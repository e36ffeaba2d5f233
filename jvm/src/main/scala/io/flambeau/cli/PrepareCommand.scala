// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.spark.rdd.RDD
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.SparkInternals
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types.LongType

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

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val output = arguments("output")
    for ((split, images, labels) <- sources(arguments)) {
      val csv = Tables.absent(spark, s"$output/csv$split")
      val tfr = Tables.absent(spark, s"$output/tfr$split")
      val table = Tables.idx(spark, images, Some(labels), Some(arguments.count("partitions")))
      val pixels = table.select("image").head().getAs[Array[Byte]](0).length
      saveCsv(SparkInternals.rows(table), pixels, csv)
      val numbers = table.select(col("label").cast(LongType), Pixels.numbers(col("image")).as("image"))
      numbers.write.format("tfrecord").save(tfr)
      out.println(s"${table.count()} images of $pixels pixels: $csv, $tfr")
    }
  }

  /** A line is quicker made than hundreds of columns, of which Spark would write it. */
  private def saveCsv(rows: RDD[InternalRow], pixels: Int, directory: String): Unit = {
    val header = ("label" +: Seq.tabulate(pixels)(index => s"p$index")).mkString(",")
    rows.mapPartitions(part => Iterator(header) ++ part.map(line)).saveAsTextFile(directory)
  }

  private def line(row: InternalRow): String = {
    val text = new StringBuilder().append(row.getInt(0))
    row.getBinary(1).foreach(pixel => text.append(',').append(pixel & 0xff))
    text.toString
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
}
