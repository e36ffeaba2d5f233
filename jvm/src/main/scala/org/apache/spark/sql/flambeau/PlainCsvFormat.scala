// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.util.Locale

import org.apache.hadoop.conf.Configuration
import org.apache.spark.TaskContext
import org.apache.spark.broadcast.Broadcast
import org.apache.spark.sql.{classic, SparkSession}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.csv.{CSVHeaderChecker, CSVOptions, UnivocityParser}
import org.apache.spark.sql.catalyst.expressions.{UnsafeProjection, UnsafeRow}
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan
import org.apache.spark.sql.execution.datasources.{
  HadoopFileLinesReader, HadoopFsRelation, LogicalRelation, PartitionedFile}
import org.apache.spark.sql.execution.datasources.csv.CSVFileFormat
import org.apache.spark.sql.sources.Filter
import org.apache.spark.sql.types.StructType
import org.apache.spark.util.SerializableConfiguration

/**
 * Spark's CSV with the same options, splits and rows, several times as fast where lines are plain
 * (see [[PlainCsvLine]]). Every other line is read by Spark's own parser, and so is a whole file where
 * options or columns may give plain lines another meaning.
 *
 * Pushed filters are left to the plan, which has them all once more, for plain lines.
 */
private[flambeau] final class PlainCsvFormat extends CSVFileFormat {

  override def buildReader(
      spark: SparkSession,
      dataSchema: StructType,
      partitionSchema: StructType,
      requiredSchema: StructType,
      filters: Seq[Filter],
      options: Map[String, String],
      hadoopConf: Configuration): PartitionedFile => Iterator[InternalRow] = {
    val whole =
      super.buildReader(spark, dataSchema, partitionSchema, requiredSchema, filters, options, hadoopConf)
    val conf = spark.asInstanceOf[classic.SparkSession].sessionState.conf
    val parsed =
      new CSVOptions(options, conf.csvColumnPruning, conf.sessionLocalTimeZone, conf.columnNameOfCorruptRecord)
    val dialect = PlainCsvDialect.of(options, parsed)
    if (dialect.isEmpty || !PlainCsvLine.covers(dataSchema, requiredSchema, parsed)) whole
    else {
      val hadoop = spark.sparkContext.broadcast(new SerializableConfiguration(hadoopConf))
      new PlainCsvReader(dialect.get, dataSchema, requiredSchema, filters, parsed, hadoop, whole)
    }
  }

  /** Without columns of the partition, plain rows need no copy. */
  override def buildReaderWithPartitionValues(
      spark: SparkSession,
      dataSchema: StructType,
      partitionSchema: StructType,
      requiredSchema: StructType,
      filters: Seq[Filter],
      options: Map[String, String],
      hadoopConf: Configuration): PartitionedFile => Iterator[InternalRow] =
    if (partitionSchema.nonEmpty) {
      super.buildReaderWithPartitionValues(
        spark, dataSchema, partitionSchema, requiredSchema, filters, options, hadoopConf)
    } else {
      val read = buildReader(spark, dataSchema, partitionSchema, requiredSchema, filters, options, hadoopConf)
      file => {
        lazy val unsafe = UnsafeProjection.create(requiredSchema)
        read(file).map {
          case row: UnsafeRow => row
          case row => unsafe(row)
        }
      }
    }

  override def toString: String = "CSV, plain lines by Flambeau"

  override def equals(other: Any): Boolean = other.isInstanceOf[PlainCsvFormat]

  override def hashCode(): Int = classOf[PlainCsvFormat].hashCode
}

private[flambeau] object PlainCsvFormat {

  /** An option of relations, which are else equal to those of Spark: its format equals what inherits from it. */
  val Mark = "__flambeau_plain"

  /** `plan` with this format in place of Spark's, where that is what reads. */
  def in(plan: LogicalPlan): LogicalPlan = plan.transform { case leaf: LogicalRelation =>
    leaf.relation match {
      case files: HadoopFsRelation if files.fileFormat.getClass == classOf[CSVFileFormat] =>
        val options = files.options + (Mark -> "true")
        leaf.copy(relation = files.copy(fileFormat = new PlainCsvFormat, options = options)(files.sparkSession))
      case _ => leaf
    }
  }
}

/**
 * Reads splits as Spark's `CSVFileFormat` does, but for plain lines.
 *
 * @param whole Spark's own, for files that are no lines
 */
private final class PlainCsvReader(
    dialect: PlainCsvDialect,
    dataSchema: StructType,
    requiredSchema: StructType,
    filters: Seq[Filter],
    options: CSVOptions,
    conf: Broadcast[SerializableConfiguration],
    whole: PartitionedFile => Iterator[InternalRow])
    extends (PartitionedFile => Iterator[InternalRow])
    with Serializable {

  override def apply(file: PartitionedFile): Iterator[InternalRow] =
    if (isArchive(file)) whole(file) else linesOf(file)

  private def linesOf(file: PartitionedFile): Iterator[InternalRow] = {
    val lines = new HadoopFileLinesReader(file, options.lineSeparatorInRead, conf.value.value)
    Option(TaskContext.get()).foreach(_.addTaskCompletionListener[Unit](_ => lines.close()))
    val parser = new UnivocityParser(dataSchema, requiredSchema, options, filters)
    val header = new CSVHeaderChecker(
      if (options.isColumnPruningEnabled(requiredSchema)) requiredSchema else dataSchema,
      options,
      s"CSV file: ${file.urlEncodedPath}",
      file.start == 0)
    new PlainCsvRows(lines, new PlainCsvLine(dialect, dataSchema, requiredSchema))(
      UnivocityParser.parseIterator(_, parser, header, requiredSchema))
  }

  /** Spark 4.3 reads CSV inside of such files. */
  private def isArchive(file: PartitionedFile): Boolean = {
    val name = file.toPath.getName.toLowerCase(Locale.ROOT)
    PlainCsvReader.Archives.exists(name.endsWith)
  }
}

private object PlainCsvReader {
  private val Archives = Seq(".tar", ".tar.gz", ".tgz", ".zip", ".7z")
}
