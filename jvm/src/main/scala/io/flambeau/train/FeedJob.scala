// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.{ByteBuffer, ByteOrder}

import org.apache.spark.TaskContext
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{ArrowBatcher, ArrowSchema, SparkInternals}
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types.StructType
import org.json4s.JsonDSL._

import io.flambeau.jni.{Columns, NativeLibrary, Session}

/** Feeds rows as a fit would, decodes them and drops them: what feeding costs by itself. */
object FeedJob {

  /** Bytes of tensor data that the columns `features` of all rows became. */
  def run(data: Dataset[_], features: Array[String]): Long = {
    val columns = Columns(features.toSeq, Map.empty, Nil, Map.empty, None, "error")
    val selected = data.select(columns.names.map(col): _*)
    val schema = columns.of(selected.schema)
    SparkInternals.rows(selected).mapPartitions(rows => Iterator(drain(rows, columns, schema))).sum().toLong
  }

  private def drain(rows: Iterator[InternalRow], columns: Columns, schema: StructType): Long = {
    NativeLibrary.load()
    val config = ("kind" -> "drain") ~ ("columns" -> columns.json)
    val session = Session.open(config, ArrowSchema.message(schema), null, null)
    val batcher = new ArrowBatcher(schema)
    TaskContext.get().addTaskCompletionListener[Unit](_ => batcher.close())
    var bytes = 0L
    while (rows.hasNext) {
      while (rows.hasNext && !batcher.isFull) batcher.add(rows.next())
      val decoded = batcher.lend(session.transform)
      bytes += ByteBuffer.wrap(decoded).order(ByteOrder.LITTLE_ENDIAN).getLong
    }
    bytes
  }
}
