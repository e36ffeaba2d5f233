// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.{FileStatus, Path}
import org.apache.hadoop.mapreduce.{Job, TaskAttemptContext}
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.UnsafeProjection
import org.apache.spark.sql.execution.datasources.{FileFormat, OutputWriter, OutputWriterFactory, PartitionedFile}
import org.apache.spark.sql.sources.{DataSourceRegister, Filter}
import org.apache.spark.sql.types.{DataType, StructType}
import org.apache.spark.util.SerializableConfiguration

import io.flambeau.data.{TfRecordOptions, TfRecordSchema, TfRecordWriter}

/** What [[TfRecordSource]] leaves to the first version of Spark's API: writing, SQL tables and streams. */
final class TfRecordFileFormat extends FileFormat with DataSourceRegister with Serializable {
  override def shortName(): String = TfRecordSource.Name

  override def toString: String = TfRecordSource.FormatName

  override def equals(other: Any): Boolean = other.isInstanceOf[TfRecordFileFormat]

  override def hashCode(): Int = getClass.hashCode

  override def supportDataType(dataType: DataType): Boolean = TfRecordSchema.supports(dataType)

  override def supportBatch(spark: SparkSession, schema: StructType): Boolean = true

  override def isSplitable(spark: SparkSession, options: Map[String, String], path: Path): Boolean =
    new TfRecordOptions(options).isSplitable(path)

  override def inferSchema(
      spark: SparkSession, options: Map[String, String], files: Seq[FileStatus]): Option[StructType] =
    TfRecordSource.infer(spark, options, files)

  /** Gives batches, if Spark's plan takes them, by a cast that both sides know of; else rows. */
  override def buildReaderWithPartitionValues(
      spark: SparkSession,
      dataSchema: StructType,
      partitionSchema: StructType,
      requiredSchema: StructType,
      filters: Seq[Filter],
      options: Map[String, String],
      hadoopConf: Configuration): PartitionedFile => Iterator[InternalRow] = {
    val parsed = new TfRecordOptions(options)
    TfRecordSchema.verify(dataSchema, parsed.recordType)
    val conf = spark.sparkContext.broadcast(new SerializableConfiguration(hadoopConf))
    val inBatches = options.get(FileFormat.OPTION_RETURNING_BATCH).contains("true")
    file => {
      val batches = new TfRecordReader(file, requiredSchema, partitionSchema, parsed, conf.value.value)
      if (inBatches) batches.asInstanceOf[Iterator[InternalRow]]
      else {
        val copied = UnsafeProjection.create(StructType(requiredSchema ++ partitionSchema))
        batches.flatMap(_.rowIterator.asScala).map(copied)
      }
    }
  }

  override def prepareWrite(
      spark: SparkSession, job: Job, options: Map[String, String], dataSchema: StructType): OutputWriterFactory = {
    val parsed = new TfRecordOptions(options)
    TfRecordSchema.verify(dataSchema, parsed.recordType)
    new TfRecordOutputFactory(parsed)
  }
}

private final class TfRecordOutputFactory(options: TfRecordOptions) extends OutputWriterFactory {
  override def getFileExtension(context: TaskAttemptContext): String =
    s".${TfRecordSource.Name}${options.writtenCompression.suffixes.head}"

  override def newInstance(location: String, columns: StructType, context: TaskAttemptContext): OutputWriter =
    new OutputWriter {
      private val writer = new TfRecordWriter(location, columns, options, context.getConfiguration)

      override def path(): String = location

      override def write(row: InternalRow): Unit = writer.write(row)

      override def close(): Unit = writer.close()
    }
}
