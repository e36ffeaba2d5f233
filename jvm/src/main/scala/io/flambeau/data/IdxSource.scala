// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import java.util

import scala.jdk.CollectionConverters._

import org.apache.hadoop.conf.Configuration
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.connector.catalog.{SupportsRead, Table, TableCapability, TableProvider}
import org.apache.spark.sql.connector.expressions.Transform
import org.apache.spark.sql.connector.read._
import org.apache.spark.sql.sources.DataSourceRegister
import org.apache.spark.sql.types.{BinaryType, IntegerType, StructType}
import org.apache.spark.sql.util.CaseInsensitiveStringMap
import org.apache.spark.util.SerializableConfiguration

import io.flambeau.{ConfigException, DataException}

/**
 * The data source `idx`: a file of images, and with the option `labels` one of as many labels.
 *
 * {{{spark.read.format("idx").option("labels", "train-labels-idx1-ubyte.gz").load("train-images-idx3-ubyte.gz")}}}
 *
 * Columns are `label`, an int, and `image`, the bytes of an item. The option `partitions` says in how
 * many parts the files are read, each by a task of its own (as many as Spark's default parallelism).
 */
final class IdxSource extends TableProvider with DataSourceRegister {
  override def shortName(): String = "idx"

  override def inferSchema(options: CaseInsensitiveStringMap): StructType = IdxFiles.of(options).schema

  override def getTable(schema: StructType, partitioning: Array[Transform], options: util.Map[String, String]): Table =
    new IdxTable(IdxFiles.of(new CaseInsensitiveStringMap(options)))
}

/**
 * The files of one load, whole and of one length.
 *
 * @param partitions in how many parts they are read
 */
private[data] final case class IdxFiles(images: Idx, labels: Option[Idx], partitions: Int) {
  private val all = new StructType().add("label", IntegerType, nullable = false).add("image", BinaryType, nullable = false)

  def schema: StructType = if (labels.isDefined) all else StructType(all.drop(1))
}

private[data] object IdxFiles {
  private val Labels = "labels"
  private val Partitions = "partitions"

  /** @throws DataException naming the file and the byte, or the two files that do not pair */
  def of(options: CaseInsensitiveStringMap): IdxFiles = {
    val spark = SparkSession.active
    val conf = spark.sparkContext.hadoopConfiguration
    val path = Option(options.get("path")).getOrElse(throw new ConfigException("idx needs the path of a file of images"))
    val images = Idx.check(path, conf)
    val labels = Option(options.get(Labels)).map(Idx.check(_, conf))
    labels.foreach { labels =>
      if (images.count != labels.count || labels.itemSize != 1) {
        throw new DataException(
          s"${images.location} has ${images.count} images, but ${labels.location} has " +
            s"${labels.dimensions.mkString(" x ")} labels")
      }
    }
    if (images.count == 0 || images.itemSize == 0) throw new DataException(s"${images.location} has no pixels")
    val asked = Option(options.get(Partitions)).map { text =>
      text.toIntOption.filter(_ > 0).getOrElse {
        throw new ConfigException(s"option $Partitions is '$text'; it must be a whole number of at least 1")
      }
    }
    IdxFiles(images, labels, asked.getOrElse(spark.sparkContext.defaultParallelism).min(images.count))
  }
}

private final class IdxTable(files: IdxFiles) extends Table with SupportsRead {
  override def name(): String = s"idx ${files.images.location}"

  override def schema(): StructType = files.schema

  override def capabilities(): util.Set[TableCapability] = Set(TableCapability.BATCH_READ).asJava

  override def newScanBuilder(options: CaseInsensitiveStringMap): ScanBuilder =
    new IdxScan(files, files.schema)
}

/** One query's reading. */
private final class IdxScan(files: IdxFiles, var wanted: StructType)
    extends ScanBuilder
    with SupportsPushDownRequiredColumns
    with Scan
    with Batch {
  override def pruneColumns(required: StructType): Unit = wanted = required

  override def build(): Scan = this

  override def readSchema(): StructType = wanted

  override def toBatch: Batch = this

  override def planInputPartitions(): Array[InputPartition] = {
    val (count, parts) = (files.images.count.toLong, files.partitions)
    Array.tabulate(parts)(part => IdxPart(count * part / parts, count * (part + 1) / parts))
  }

  override def createReaderFactory(): PartitionReaderFactory = {
    val conf = new SerializableConfiguration(SparkSession.active.sparkContext.hadoopConfiguration)
    IdxReaderFactory(files, wanted.fieldNames.toSeq, conf)
  }
}

/** The items from number `first` up to `end`. */
private final case class IdxPart(first: Long, end: Long) extends InputPartition

private final case class IdxReaderFactory(files: IdxFiles, columns: Seq[String], conf: SerializableConfiguration)
    extends PartitionReaderFactory {
  override def createReader(part: InputPartition): PartitionReader[InternalRow] =
    new IdxReader(files, columns, part.asInstanceOf[IdxPart], conf.value)
}

private final class IdxReader(files: IdxFiles, columns: Seq[String], part: IdxPart, conf: Configuration)
    extends PartitionReader[InternalRow] {
  private val images = Option.when(columns.contains("image"))(files.images.items(part.first, conf))
  private val labels = files.labels.filter(_ => columns.contains("label")).map(_.items(part.first, conf))
  private var at = part.first - 1

  override def next(): Boolean = {
    at += 1
    at < part.end
  }

  override def get(): InternalRow = InternalRow.fromSeq(columns.map {
    case "label" => labels.map(_.next().head & 0xff).get
    case _ => images.map(_.next()).get
  })

  override def close(): Unit = {
    images.foreach(_.close())
    labels.foreach(_.close())
  }
}
