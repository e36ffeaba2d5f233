// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import scala.util.Using

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.{DataFrame, Row, SparkSession}
import org.apache.spark.sql.functions._
import org.apache.spark.util.SerializableConfiguration

import io.flambeau.DataException

/**
 * A folder with a subfolder of PNG or JPEG files for each class, as Keras's
 * `image_dataset_from_directory` reads it: the classes are numbered in the order of their names.
 */
private[cli] object ImageFolder {
  private val Files = "*.{png,jpg,jpeg,PNG,JPG,JPEG}"

  /** Columns `label`, a bigint, `class`, the subfolder's name, and `image`, the files' bytes. */
  def read(spark: SparkSession, folder: String): DataFrame = {
    val files = spark.read
      .format("binaryFile")
      .option("recursiveFileLookup", "true")
      .option("pathGlobFilter", Files)
      .load(folder)
    val named = files.select(element_at(split(col("path"), "/"), -2).as("class"), col("content").as("image"))
    val classes = named.select("class").distinct().collect().map(_.getString(0)).sorted
    if (classes.isEmpty) throw new DataException(s"$folder has no subfolders with $Files")
    val number = udf((name: String) => classes.indexOf(name).toLong)
    named.select(number(col("class")).as("label"), col("class"), col("image"))
  }

  /**
   * Writes each row's image as a file in the subfolder of its label.
   *
   * @param shape height, width and channels of raw pixels, which become PNG; without it the image is
   *     a file already
   */
  def write(table: DataFrame, image: String, label: String, shape: Option[(Int, Int, Int)], output: String): Unit = {
    val rows = table.select(table(label).cast("string"), Pixels.of(table, image))
    val conf = new SerializableConfiguration(table.sparkSession.sparkContext.hadoopConfiguration)
    rows.rdd.mapPartitionsWithIndex { (part, rows) =>
      rows.zipWithIndex.foreach {
        case (Row(label: String, bytes: Array[Byte]), at) =>
          val (file, ending) = shape match {
            case Some((height, width, channels)) => (Pixels.png(bytes, height, width, channels), "png")
            case None => (bytes, endingOf(bytes))
          }
          val path = new Path(s"$output/$label/$part-$at.$ending")
          Using.resource(path.getFileSystem(conf.value).create(path))(_.write(file))
        case (row, _) => throw new DataException(s"a row has no ${if (row.isNullAt(0)) "label" else "image"}")
      }
      Iterator.empty[Int]
    }.count()
    ()
  }

  private def endingOf(file: Array[Byte]): String = file.take(2).map(_ & 0xff) match {
    case Array(0x89, 0x50) => "png"
    case Array(0xff, 0xd8) => "jpg"
    case _ =>
      throw new DataException("an image is neither PNG nor JPEG. Try: --shape HEIGHT,WIDTH,CHANNELS, if it is raw pixels")
  }
}
