// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.{AnalysisException, DataFrame, Row, SparkSession}
import org.apache.spark.sql.streaming.{DataStreamWriter, Trigger}

import io.flambeau.{ConfigException, DataException}
import io.flambeau.ml.KerasColumnParams

/** The tables that commands read. */
private[cli] object Tables {
  val StreamFlag: Flag = Flag(
    "stream", "directory of a stream's state: the table is a directory in which files arrive, each of which is taken once")
  val TriggerFlag: Flag =
    Flag("trigger", "of a stream: available takes what is there and ends; else the time between two looks, as 30 seconds", default = Some("available"))
  /** What tables are read from. */
  val Formats: Seq[String] = Seq("csv", "parquet", "orc", "tfrecord", "idx")

  val FormatFlag: Flag =
    Flag("format", "csv (with a header), parquet, orc, tfrecord, or idx (a file of images)", default = Some("csv"))
  val IdxLabelsFlag: Flag = Flag("idx-labels", "of format idx, the file of the images' labels")
  val InputMappingFlag: Flag =
    Flag("input-mapping", "of a model with several inputs, JSON of their names with columns; instead of features")

  /** What the types of columns do not say. */
  val MappingFlags: Seq[Flag] = Seq(
    Flag("images", "feature columns that hold encoded images, by commas"),
    Flag("image-resize", "of images of another size: error, nearest or bilinear", default = Some("error")),
    Flag("sequence-padding", "where short arrays are filled up: error, pre or post; or JSON by input", default = Some("error")),
    Flag("sequence-truncating", "where long arrays are cut: error, pre or post; or JSON by input", default = Some("error")),
    Flag("device", "where tasks compute: auto, cpu, cuda, or cuda:N for the GPU of that number", default = Some("auto")))

  /** @throws DataException if there is no such table */
  def read(spark: SparkSession, arguments: Arguments, location: String): DataFrame =
    readAs(spark, arguments.choice("format", Formats: _*), location, arguments)

  /** As [[read]], in a format of [[Formats]]. */
  def readAs(spark: SparkSession, format: String, location: String, arguments: Arguments): DataFrame = existing(location) {
    format match {
      case "csv" => spark.read.option("header", "true").option("inferSchema", "true").csv(location)
      case "idx" => idx(spark, location, arguments.get("idx-labels"), None)
      case format => spark.read.format(format).load(location)
    }
  }

  /** A file of images, and one of their labels. */
  def idx(spark: SparkSession, images: String, labels: Option[String], partitions: Option[Int]): DataFrame = {
    val reader = spark.read.format("idx")
    labels.foreach(reader.option("labels", _))
    partitions.foreach(reader.option("partitions", _))
    reader.load(images)
  }

  /** @throws DataException what Spark says of a location that cannot be read */
  def existing(location: String)(read: => DataFrame): DataFrame =
    try read
    catch {
      // The second is Hadoop's, of a path that is none.
      case error @ (_: AnalysisException | _: IllegalArgumentException) =>
        throw new DataException(s"$location cannot be read: ${error.getMessage}", error)
    }

  /** @throws ConfigException if something is there */
  def absent(spark: SparkSession, directory: String): String = {
    val path = new Path(directory)
    if (path.getFileSystem(spark.sparkContext.hadoopConfiguration).exists(path)) {
      throw new ConfigException(s"$directory exists already. Try: delete it, or another --output")
    }
    directory
  }

  /** As a stream of files, with the columns of those that are there now. */
  def stream(spark: SparkSession, arguments: Arguments, location: String): DataFrame = {
    val schema = read(spark, arguments, location).schema
    val source = spark.readStream.schema(schema).format(arguments("format"))
    (if (arguments("format") == "csv") source.option("header", "true") else source).load(location)
  }

  /** Starts a stream with the state and the trigger that the options name, and waits until it ends. */
  def run(stream: DataStreamWriter[Row], arguments: Arguments): Unit = {
    val trigger = arguments("trigger") match {
      case "available" => Trigger.AvailableNow()
      case interval => arguments.checked(Trigger.ProcessingTime(interval))
    }
    stream.option("checkpointLocation", arguments("stream")).trigger(trigger).start().awaitTermination()
  }

  /** Tells a stage its inputs: their mapping, the named features, or every column but the others. */
  def setFeatures(stage: KerasColumnParams, arguments: Arguments, table: DataFrame, others: Seq[String]): Unit = {
    arguments.list("images").foreach(columns => stage.setImageCols(columns.toArray))
    stage.setImageResize(arguments("image-resize"))
    stage.setSequencePadding(arguments("sequence-padding"))
    stage.setSequenceTruncating(arguments("sequence-truncating"))
    stage.setDevice(arguments("device"))
    arguments.get("input-mapping") match {
      case Some(mapping) => stage.setInputMapping(mapping)
      case None => stage.setFeatureCols(arguments.list("features").getOrElse(table.columns.toSeq.diff(others)).toArray)
    }
  }
}
