// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.{DataFrame, SparkSession}
import org.apache.spark.sql.functions._
import org.apache.spark.sql.types._

import io.flambeau.DataException
import io.flambeau.jni.Columns

/** Writes the rows of files in another format. */
private[cli] object ConvertCommand extends Command {
  override val name = "convert"
  override val meaning = "write a table or a folder of images in another format"

  override val flags: Seq[Flag] = Seq(
    Flag("data", "what to read: files, a directory of them, or a folder with a subfolder of images for each class", required = true),
    Flag("from", s"its format: ${Tables.Formats.mkString(", ")} or images", required = true),
    Tables.IdxLabelsFlag,
    Flag("output", "directory to write; must not exist", required = true),
    Flag("to", "its format: tfrecord, csv, parquet, orc, idx or images", required = true),
    Flag("columns", "columns to write, by commas; all if absent"),
    Flag("stack", "NAME=FIRST..LAST: these columns of numbers, and those between them, become one array"),
    Flag("compression", "of the files written: gzip and what else the format has"),
    Flag("label", "label column, for idx and images", default = Some("label")),
    Flag("image", "image column, for idx and images", default = Some("image")),
    Flag("shape", "HEIGHT,WIDTH,CHANNELS of raw pixels, for idx and images; without it images are files already"),
    Flag("partitions", "number of files; as they come if absent"))

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val output = Tables.absent(spark, arguments("output"))
    val table = chosen(stacked(read(spark, arguments), arguments), arguments)
    val dealt = arguments.get("partitions").fold(table)(_ => table.repartition(arguments.count("partitions")))
    arguments.choice("to", "tfrecord", "csv", "parquet", "orc", "idx", "images") match {
      case "csv" => save(spread(dealt), "csv", output, arguments)
      case "idx" => 
        val size = shape(arguments).map { case (height, width, channels) => (height, width * channels) }
        IdxFile.write(dealt, arguments("image"), arguments("label"), size, output)
      case "images" => ImageFolder.write(dealt, arguments("image"), arguments("label"), shape(arguments), output)
      case format => save(dealt, format, output, arguments)
    }
    out.println(s"$output: ${table.columns.mkString(", ")}")
  }

  private def read(spark: SparkSession, arguments: Arguments): DataFrame = {
    val (location, from) = (arguments("data"), arguments.choice("from", Tables.Formats :+ "images": _*))
    if (from == "images") Tables.existing(location)(ImageFolder.read(spark, location))
    else Tables.readAs(spark, from, location, arguments)
  }

  private def chosen(table: DataFrame, arguments: Arguments): DataFrame =
    arguments.list("columns").fold(table)(names => table.select(names.map(known(table, _)): _*))

  private def known(table: DataFrame, name: String) = {
    if (!table.columns.contains(name)) {
      throw new DataException(s"there is no column '$name' among ${table.columns.mkString(", ")}")
    }
    Columns.named(name)
  }

  private def stacked(table: DataFrame, arguments: Arguments): DataFrame = arguments.get("stack").fold(table) {
    case Stack(name, first, last) =>
      known(table, first)
      known(table, last)
      val (from, to) = (table.columns.indexOf(first), table.columns.indexOf(last))
      if (from > to) throw new UsageException(s"--stack: '$last' comes before '$first'")
      val inside = table.columns.toSeq.slice(from, to + 1)
      val others = table.columns.toSeq.diff(inside).map(Columns.named)
      table.select(others :+ array(inside.map(Columns.named): _*).as(name): _*)
    case other => throw new UsageException(s"--stack must be NAME=FIRST..LAST, not '$other'")
  }

  /** A CSV file holds no arrays: each becomes as many columns, numbered from 0. */
  private def spread(table: DataFrame): DataFrame = {
    val numbers = table.select(table.schema.map {
      case StructField(name, BinaryType, _, _) => Pixels.numbers(Columns.named(name)).as(name)
      case field => Columns.named(field.name)
    }: _*)
    val lists = numbers.schema.collect { case StructField(name, _: ArrayType, _, _) => name }
    if (lists.isEmpty) numbers
    else {
      val longest = numbers.select(lists.flatMap(name => Seq(min(size(Columns.named(name))), max(size(Columns.named(name))))): _*).head()
      val widths = lists.indices.map { at =>
        if (longest.isNullAt(2 * at)) 0
        else if (longest.getInt(2 * at) == longest.getInt(2 * at + 1)) longest.getInt(2 * at)
        else {
          throw new DataException(
            s"column '${lists(at)}' has from ${longest.getInt(2 * at)} to ${longest.getInt(2 * at + 1)} values: " +
              "CSV has as many in every row. Try: --to parquet or tfrecord, or --columns without it")
        }
      }
      val width = lists.zip(widths).toMap
      numbers.select(numbers.columns.toSeq.flatMap { name =>
        width.get(name).fold(Seq(Columns.named(name))) { count =>
          (0 until count).map(index => Columns.named(name)(index).as(s"$name$index"))
        }
      }: _*)
    }
  }

  private def save(table: DataFrame, format: String, output: String, arguments: Arguments): Unit = {
    val writer = table.write.format(format)
    if (format == "csv") writer.option("header", "true")
    arguments.get("compression").foreach(writer.option("compression", _))
    writer.save(new Path(output).toString)
  }

  private def shape(arguments: Arguments): Option[(Int, Int, Int)] = arguments.get("shape").map { text =>
    text.split(',').map(_.trim.toIntOption) match {
      case Array(Some(height), Some(width), Some(channels)) if height > 0 && width > 0 && Set(1, 3, 4)(channels) =>
        (height, width, channels)
      case _ => throw new UsageException(s"--shape must be HEIGHT,WIDTH,CHANNELS with 1, 3 or 4 channels, not '$text'")
    }
  }

  private val Stack = """([^=]+)=(.+?)\.\.(.+)""".r
}
