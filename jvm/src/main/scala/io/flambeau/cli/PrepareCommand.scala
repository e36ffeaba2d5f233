// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.hadoop.fs.Path
import org.apache.spark.TaskContext
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{JoinedRow, UnsafeArrayData}
import org.apache.spark.sql.flambeau.{MapRows, SparkInternals}
import org.apache.spark.sql.types.{ArrayType, LongType, StructType}
import org.apache.spark.util.SerializableConfiguration

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

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val output = arguments("output")
    val partitions = arguments.count("partitions")
    for ((split, imagesPath, labelsPath) <- sources(arguments)) {
      val csv = absent(spark, s"$output/csv$split")
      val tfr = absent(spark, s"$output/tfr$split")
      val hadoop = new SerializableConfiguration(spark.sparkContext.hadoopConfiguration)
      val (images, labels) = paired(Idx.check(imagesPath, hadoop.value), Idx.check(labelsPath, hadoop.value))
      val numbers = spark.range(0, images.count, 1, partitions.min(images.count))
      val schema = StructType(numbers.schema ++ Schema)
      val table = MapRows(numbers.toDF(), schema, "Idx")(examples(images, labels, hadoop)).drop("id")
      saveCsv(SparkInternals.rows(table), images.itemSize, csv)
      table.write.format("tfrecord").save(tfr)
      out.println(s"${images.count} images of ${images.itemSize} pixels: $csv, $tfr")
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

  private def paired(images: Idx, labels: Idx): (Idx, Idx) = {
    if (images.count != labels.count || labels.itemSize != 1) {
      throw new DataException(
        s"${images.location} has ${images.count} images, but ${labels.location} has " +
          s"${labels.dimensions.mkString(" x ")} labels")
    }
    if (images.count == 0 || images.itemSize == 0) throw new DataException(s"${images.location} has no pixels")
    (images, labels)
  }

  /** Rows for consecutive numbers of images, which each task reads from the files itself. */
  private def examples(images: Idx, labels: Idx, hadoop: SerializableConfiguration)(
      numbers: Iterator[InternalRow]): Iterator[InternalRow] = {
    val ahead = numbers.buffered
    ahead.headOption.fold(Iterator.empty[InternalRow]) { row =>
      val first = row.getLong(0)
      val pixels = images.items(first, hadoop.value)
      val classes = labels.items(first, hadoop.value)
      TaskContext.get().addTaskCompletionListener[Unit] { _ =>
        pixels.close()
        classes.close()
      }
      ahead.map { row =>
        val example =
          InternalRow(unsigned(classes.next().head), UnsafeArrayData.fromPrimitiveArray(pixels.next().map(unsigned)))
        new JoinedRow(row, example)
      }
    }
  }

  private def unsigned(byte: Byte): Long = byte & 0xffL

  private def saveCsv(rows: RDD[InternalRow], pixels: Int, directory: String): Unit = {
    val header = ("label" +: Seq.tabulate(pixels)(index => s"p$index")).mkString(",")
    rows.mapPartitions(part => Iterator(header) ++ part.map(line)).saveAsTextFile(directory)
  }

  private def line(row: InternalRow): String = {
    val text = new StringBuilder().append(row.getLong(0))
    row.getArray(1).toLongArray().foreach(pixel => text.append(',').append(pixel))
    text.toString
  }
}
