// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.catalyst.expressions.Expression
import org.apache.spark.sql.connector.metric.CustomMetric
import org.apache.spark.sql.connector.read.PartitionReaderFactory
import org.apache.spark.sql.execution.datasources.PartitioningAwareFileIndex
import org.apache.spark.sql.execution.datasources.v2.{FileScan, FileScanBuilder}
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.CaseInsensitiveStringMap
import org.apache.spark.util.SerializableConfiguration

import io.flambeau.data.TfRecordSchema

/** Learns from Spark which columns and partitions a query needs. */
private[flambeau] final class TfRecordScanBuilder(
    spark: SparkSession,
    index: PartitioningAwareFileIndex,
    dataSchema: StructType,
    options: CaseInsensitiveStringMap)
    extends FileScanBuilder(spark, index, dataSchema) {

  override def build(): TfRecordScan =
    TfRecordScan(
      spark, index, dataSchema, readDataSchema(), readPartitionSchema(), options, partitionFilters, dataFilters)
}

/** One query's reading of the files. Scans that are equal are read once. */
private[flambeau] final case class TfRecordScan(
    sparkSession: SparkSession,
    fileIndex: PartitioningAwareFileIndex,
    dataSchema: StructType,
    readDataSchema: StructType,
    readPartitionSchema: StructType,
    options: CaseInsensitiveStringMap,
    partitionFilters: Seq[Expression],
    dataFilters: Seq[Expression])
    extends FileScan {

  override def isSplitable(path: Path): Boolean = parsed.isSplitable(path)

  override def getFileUnSplittableReason(path: Path): String =
    "only plain files are split, without mode=PERMISSIVE and splitFiles=false"

  override def createReaderFactory(): PartitionReaderFactory = {
    TfRecordSchema.verify(dataSchema, parsed.recordType)
    val conf = SparkInternals.hadoopConf(sparkSession, options.asCaseSensitiveMap.asScala.toMap)
    new TfRecordReaderFactory(
      readDataSchema,
      readPartitionSchema,
      parsed,
      sparkSession.sparkContext.broadcast(new SerializableConfiguration(conf)))
  }

  override def supportedCustomMetrics(): Array[CustomMetric] = Array(new SkippedRecords)

  override def equals(other: Any): Boolean = other match {
    case scan: TfRecordScan => super.equals(scan) && dataSchema == scan.dataSchema && options == scan.options
    case _ => false
  }

  override def hashCode(): Int = getClass.hashCode

  @transient private lazy val parsed = TfRecordSource.optionsOf(options)
}
