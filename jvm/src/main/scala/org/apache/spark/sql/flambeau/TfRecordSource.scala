// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._

import org.apache.hadoop.fs.FileStatus
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.connector.catalog.Table
import org.apache.spark.sql.connector.write.{LogicalWriteInfo, WriteBuilder}
import org.apache.spark.sql.execution.datasources.FileFormat
import org.apache.spark.sql.execution.datasources.v2.{FileDataSourceV2, FileTable}
import org.apache.spark.sql.types.{DataType, StructType}
import org.apache.spark.sql.util.CaseInsensitiveStringMap

import io.flambeau.data.{SchemaInference, TfRecordOptions, TfRecordSchema}

/**
 * The data source `tfrecord`. Like Spark's own file sources it reads DataFrames by the second
 * version of the API, and leaves writing, SQL tables and streams to a `FileFormat` of the first,
 * which Spark falls back to (SPARK-28396). Both are thin: one reader and one writer are below them.
 */
final class TfRecordSource extends FileDataSourceV2 {
  override def shortName(): String = TfRecordSource.Name

  override def fallbackFileFormat: Class[_ <: FileFormat] = classOf[TfRecordFileFormat]

  override def getTable(options: CaseInsensitiveStringMap): Table = table(options, None)

  override def getTable(options: CaseInsensitiveStringMap, schema: StructType): Table = table(options, Some(schema))

  private def table(options: CaseInsensitiveStringMap, schema: Option[StructType]): Table = {
    val paths = getPaths(options)
    val others = getOptionsWithoutPaths(options)
    TfRecordTable(getTableName(options, paths), sparkSession, others, paths, schema)
  }
}

private[flambeau] object TfRecordSource {
  val Name = "tfrecord"
  val FormatName = "TFRecord"

  def optionsOf(options: CaseInsensitiveStringMap): TfRecordOptions =
    new TfRecordOptions(options.asCaseSensitiveMap.asScala.toMap)

  /** The columns that `files` ask for; None if there are no files. */
  def infer(spark: SparkSession, values: Map[String, String], files: Seq[FileStatus]): Option[StructType] =
    SchemaInference.of(
      files.map(_.getPath),
      new TfRecordOptions(values),
      spark.sparkContext,
      SparkInternals.hadoopConf(spark, values))
}

/** The files of one load. Tables that are equal may be read once. */
private[flambeau] final case class TfRecordTable(
    name: String,
    spark: SparkSession,
    options: CaseInsensitiveStringMap,
    paths: Seq[String],
    userSpecifiedSchema: Option[StructType])
    extends FileTable(spark, options, paths, userSpecifiedSchema) {

  override def formatName: String = TfRecordSource.FormatName

  override def fallbackFileFormat: Class[_ <: FileFormat] = classOf[TfRecordFileFormat]

  override def inferSchema(files: Seq[FileStatus]): Option[StructType] =
    TfRecordSource.infer(spark, options.asCaseSensitiveMap.asScala.toMap, files)

  override def supportsDataType(dataType: DataType): Boolean = TfRecordSchema.supports(dataType)

  override def newScanBuilder(options: CaseInsensitiveStringMap): TfRecordScanBuilder =
    new TfRecordScanBuilder(spark, fileIndex, dataSchema, mergedOptions(options))

  /** Spark replaces this table by its `FileFormat` before it writes. */
  override def newWriteBuilder(info: LogicalWriteInfo): WriteBuilder =
    throw new UnsupportedOperationException(s"$name is written by ${fallbackFileFormat.getName}")
}
