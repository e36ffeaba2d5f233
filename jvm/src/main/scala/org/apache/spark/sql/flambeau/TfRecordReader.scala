// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.hadoop.conf.Configuration
import org.apache.spark.TaskContext
import org.apache.spark.sql.execution.datasources.PartitionedFile
import org.apache.spark.sql.execution.vectorized.{ColumnVectorUtils, ConstantColumnVector}
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.vectorized.{ColumnarBatch, ColumnVector}
import org.json4s.JsonDSL._
import org.slf4j.LoggerFactory

import io.flambeau.data.{Compression, PlainBytes, TfRecordOptions}
import io.flambeau.jni.{NativeLibrary, Session}

/**
 * The records that begin in one split of a file, in batches: the columns read and the values of the
 * split's partition behind them. A batch is valid until the next is asked for. Ends with its Spark
 * task at the latest.
 *
 * @param columns to read, in this order; maybe none, as the batches still tell their rows
 * @param partitionColumns of `split.partitionValues`
 */
private[flambeau] final class TfRecordReader(
    split: PartitionedFile,
    columns: StructType,
    partitionColumns: StructType,
    options: TfRecordOptions,
    conf: Configuration)
    extends Iterator[ColumnarBatch]
    with AutoCloseable {
  import TfRecordReader._

  NativeLibrary.load()

  private val path = split.toPath
  private val compression = options.compressionOf(path)
  private val session = Session.open(config, ArrowSchema.message(columns), null, null)
  private val bytes = PlainBytes.open(path, compression, split.start, conf)
  private val loader = new LentColumns(columns)
  private var upcoming: Option[ColumnarBatch] = None
  private var ended = false
  private var leftOut = 0L

  Option(TaskContext.get()).foreach(_.addTaskCompletionListener[Unit](_ => close()))

  /** Damaged records that were left out so far. */
  def skipped: Long = leftOut

  override def hasNext: Boolean = {
    if (upcoming.isEmpty && !ended) upcoming = advance()
    upcoming.nonEmpty
  }

  override def next(): ColumnarBatch =
    if (hasNext) {
      val batch = upcoming.get
      upcoming = None
      batch
    } else Iterator.empty.next()

  /** Frees everything, the last batch too; again is harmless. */
  override def close(): Unit =
    if (!ended) {
      ended = true
      upcoming = None
      if (skipped > 0) log.warn(s"$path: $skipped damaged records were skipped")
      try loader.close()
      finally try session.close()
      finally bytes.close()
    }

  private def advance(): Option[ColumnarBatch] = {
    // Native code may then decode into the same memory again.
    loader.clear()
    val decoded = bytes.decode(session)
    leftOut = decoded.skipped
    if (decoded.isEnd) {
      close()
      None
    } else {
      val vectors = loader.load(decoded.batch)(() => decoded.release())
      Some(new ColumnarBatch(vectors ++ partitionVectors(decoded.batch.rows), decoded.batch.rows))
    }
  }

  private def partitionVectors(rows: Int): Array[ColumnVector] =
    partitionColumns.fields.zipWithIndex.map { case (field, at) =>
      val vector = new ConstantColumnVector(rows, field.dataType)
      ColumnVectorUtils.populate(vector, split.partitionValues, at)
      vector
    }

  private def config = {
    // The length of a compressed file says nothing of its plain bytes.
    val end = if (compression == Compression.Plain) split.start + split.length else Long.MaxValue
    ("kind" -> "decode") ~
      ("path" -> path.toString) ~
      ("record_type" -> options.recordType.nativeName) ~
      ("start" -> split.start) ~
      ("end" -> end) ~
      ("permissive" -> options.permissive)
  }
}

private object TfRecordReader {
  private val log = LoggerFactory.getLogger(classOf[TfRecordReader])
}
