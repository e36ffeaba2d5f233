// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import org.apache.spark.sql.{AnalysisException, DataFrame, Row, SparkSession}
import org.apache.spark.sql.streaming.{DataStreamWriter, StreamingQueryException, Trigger}

import io.flambeau.{DataException, FlambeauException}
import io.flambeau.ml.KerasColumnParams

/** The tables that commands read. */
private[cli] object Tables {
  val StreamFlag: Flag = Flag(
    "stream", "directory of a stream's state: the table is a directory in which files arrive, each of which is taken once")
  val TriggerFlag: Flag =
    Flag("trigger", "of a stream: available takes what is there and ends; else the time between two looks, as 30 seconds", default = Some("available"))
  val FormatFlag: Flag = Flag("format", "csv (with a header), parquet or tfrecord", default = Some("csv"))
  val InputMappingFlag: Flag =
    Flag("input-mapping", "of a model with several inputs, JSON of their names with columns; instead of features")

  /** @throws DataException if there is no such table */
  def read(spark: SparkSession, arguments: Arguments, location: String): DataFrame =
    try {
      arguments.choice("format", "csv", "parquet", "tfrecord") match {
        case "csv" => spark.read.option("header", "true").option("inferSchema", "true").csv(location)
        case format => spark.read.format(format).load(location)
      }
    } catch {
      // The second is Hadoop's, of a path that is none.
      case error @ (_: AnalysisException | _: IllegalArgumentException) =>
        throw new DataException(s"$location cannot be read: ${error.getMessage}", error)
    }

  /** As a stream of files, with the columns of those that are there now. */
  def stream(spark: SparkSession, arguments: Arguments, location: String): DataFrame = {
    val schema = read(spark, arguments, location).schema
    val source = spark.readStream.schema(schema).format(arguments("format"))
    (if (arguments("format") == "csv") source.option("header", "true") else source).load(location)
  }

  /**
   * Starts a stream with the state and the trigger that the options name, and waits until it ends.
   *
   * @throws FlambeauException what it ended with, if that is one
   */
  def run(stream: DataStreamWriter[Row], arguments: Arguments): Unit = {
    val trigger = arguments("trigger") match {
      case "available" => Trigger.AvailableNow()
      case interval => arguments.checked(Trigger.ProcessingTime(interval))
    }
    try stream.option("checkpointLocation", arguments("stream")).trigger(trigger).start().awaitTermination()
    catch { case failed: StreamingQueryException => throw causes(failed).collectFirst { case known: FlambeauException => known }.getOrElse(failed) }
  }

  private def causes(error: Throwable): Iterator[Throwable] =
    Iterator.iterate(error)(_.getCause).takeWhile(_ != null)

  /** Tells a stage its inputs: their mapping, the named features, or every column but the others. */
  def setFeatures(stage: KerasColumnParams, arguments: Arguments, table: DataFrame, others: Seq[String]): Unit =
    arguments.get("input-mapping") match {
      case Some(mapping) => stage.setInputMapping(mapping)
      case None => stage.setFeatureCols(arguments.list("features").getOrElse(table.columns.toSeq.diff(others)).toArray)
    }
}
