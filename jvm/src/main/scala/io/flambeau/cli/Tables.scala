// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import org.apache.spark.sql.{AnalysisException, DataFrame, SparkSession}

import io.flambeau.DataException
import io.flambeau.ml.KerasColumnParams

/** The tables that commands read. */
private[cli] object Tables {
  val FormatFlag: Flag = Flag("format", "csv (with a header), parquet or tfrecord", default = Some("csv"))
  val InputMappingFlag: Flag =
    Flag("input-mapping", "of a model with several inputs, JSON of their names with columns; instead of features")

  /** What the types of columns do not say. */
  val MappingFlags: Seq[Flag] = Seq(
    Flag("images", "feature columns that hold encoded images, by commas"),
    Flag("image-resize", "of images of another size: error, nearest or bilinear", default = Some("error")),
    Flag("sequence-padding", "where short arrays are filled up: error, pre or post; or JSON by input", default = Some("error")),
    Flag("sequence-truncating", "where long arrays are cut: error, pre or post; or JSON by input", default = Some("error")))

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

  /** Tells a stage its inputs: their mapping, the named features, or every column but the others. */
  def setFeatures(stage: KerasColumnParams, arguments: Arguments, table: DataFrame, others: Seq[String]): Unit = {
    arguments.list("images").foreach(columns => stage.setImageCols(columns.toArray))
    stage.setImageResize(arguments("image-resize"))
    stage.setSequencePadding(arguments("sequence-padding"))
    stage.setSequenceTruncating(arguments("sequence-truncating"))
    arguments.get("input-mapping") match {
      case Some(mapping) => stage.setInputMapping(mapping)
      case None => stage.setFeatureCols(arguments.list("features").getOrElse(table.columns.toSeq.diff(others)).toArray)
    }
  }
}
