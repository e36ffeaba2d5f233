// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.broadcast.Broadcast
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.connector.metric.{CustomSumMetric, CustomTaskMetric}
import org.apache.spark.sql.connector.read.{InputPartition, PartitionReader}
import org.apache.spark.sql.execution.datasources.{FilePartition, PartitionedFile}
import org.apache.spark.sql.execution.datasources.v2.{FilePartitionReader, FilePartitionReaderFactory}
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.vectorized.ColumnarBatch
import org.apache.spark.util.SerializableConfiguration

import io.flambeau.data.TfRecordOptions

/** Reads the splits of a scan on executors, as batches. */
private[flambeau] final class TfRecordReaderFactory(
    columns: StructType,
    partitionColumns: StructType,
    override val options: TfRecordOptions,
    conf: Broadcast[SerializableConfiguration])
    extends FilePartitionReaderFactory {

  override def supportColumnarReads(partition: InputPartition): Boolean = true

  /** Like Spark's own, which passes no metrics on. */
  override def createColumnarReader(partition: InputPartition): PartitionReader[ColumnarBatch] = {
    val splits = partition.asInstanceOf[FilePartition].files.iterator
    val skipped = new SkippedCount
    new FilePartitionReader[ColumnarBatch](splits, new SplitReader(_, skipped), options) {
      override def currentMetricsValues(): Array[CustomTaskMetric] = Array(skipped)
    }
  }

  override def buildReader(file: PartitionedFile): PartitionReader[InternalRow] =
    throw new UnsupportedOperationException(s"$file is read in batches")

  private final class SplitReader(split: PartitionedFile, skipped: SkippedCount)
      extends PartitionReader[ColumnarBatch] {
    private val batches = new TfRecordReader(split, columns, partitionColumns, options, conf.value.value)
    private var batch: ColumnarBatch = _

    override def next(): Boolean = {
      val before = batches.skipped
      val more = batches.hasNext
      skipped.add(batches.skipped - before)
      if (more) batch = batches.next()
      more
    }

    override def get(): ColumnarBatch = batch

    override def close(): Unit = batches.close()
  }
}

/** A scan's metric: damaged records that were left out. Spark makes one by its class name. */
final class SkippedRecords extends CustomSumMetric {
  override def name(): String = SkippedRecords.Name
  override def description(): String = "records skipped"
}

private object SkippedRecords {
  val Name = "skippedRecords"
}

/** What one task adds to that metric. */
private final class SkippedCount extends CustomTaskMetric {
  private var count = 0L

  def add(records: Long): Unit = count += records

  override def name(): String = SkippedRecords.Name
  override def value(): Long = count
}
