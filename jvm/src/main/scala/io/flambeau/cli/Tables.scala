// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import org.apache.spark.sql.{AnalysisException, DataFrame, SparkSession}

import io.flambeau.DataException

/** The tables that commands read. */
private[cli] object Tables {
  val FormatFlag: Flag = Flag("format", "csv (with a header) or parquet", default = Some("csv"))

  /** @throws DataException if there is no such table */
  def read(spark: SparkSession, arguments: Arguments, location: String): DataFrame =
    try {
      arguments.choice("format", "csv", "parquet") match {
        case "parquet" => spark.read.parquet(location)
        case _ => spark.read.option("header", "true").option("inferSchema", "true").csv(location)
      }
    } catch {
      case error: AnalysisException => throw new DataException(s"$location cannot be read: ${error.getMessage}", error)
    }

  /** The named features, or every column but the others that are named. */
  def features(arguments: Arguments, table: DataFrame, others: Seq[String]): Array[String] =
    arguments.list("features").getOrElse(table.columns.toSeq.diff(others)).toArray
}
