// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.nio.{ByteBuffer, ByteOrder}

import scala.collection.mutable.ArrayBuffer

import org.apache.spark.TaskContext
import org.apache.spark.broadcast.Broadcast
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{JoinedRow, UnsafeArrayData}
import org.apache.spark.sql.flambeau.{ArrowBatch, ArrowBatcher, ArrowSchema, SparkInternals}
import org.apache.spark.sql.types.StructType
import org.json4s.JsonDSL._

import io.flambeau.jni.{Columns, NativeLibrary, Session}

/**
 * Predicts the rows of one partition, a batch at a time: each row comes out with prediction and
 * raw output appended, in order. The session lives as long as the task.
 *
 * @param schema of the rows
 * @param binary whether an output of width 1 is a probability, rounded at 0.5
 */
private[ml] final class PartitionPrediction(
    columns: Columns,
    schema: StructType,
    model: Broadcast[Array[Byte]],
    binary: Boolean)
    extends Serializable {

  def apply(rows: Iterator[InternalRow]): Iterator[InternalRow] =
    if (rows.isEmpty) Iterator.empty
    else {
      NativeLibrary.load()
      val task = TaskContext.get()
      val input = columns.of(schema)
      val config = ("kind" -> "predict") ~ ("threads" -> task.cpus()) ~ ("columns" -> columns.json)
      val session = Session.open(config, ArrowSchema.message(input), model.value, null)
      val batcher = new ArrowBatcher(input)
      task.addTaskCompletionListener[Unit](_ => batcher.close())
      val select = SparkInternals.projection(schema, columns.names)
      Iterator.continually(()).takeWhile(_ => rows.hasNext).flatMap { _ =>
        val kept = ArrayBuffer.empty[InternalRow]
        while (rows.hasNext && !batcher.isFull) {
          val row = rows.next()
          kept += row.copy()
          batcher.add(select(row))
        }
        append(kept, batcher.lend(batch => outputs(session, batch)))
      }
    }

  private def outputs(session: Session, batch: ArrowBatch): Array[Array[Float]] = {
    val floats = ByteBuffer.wrap(session.transform(batch)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    val width = floats.remaining / batch.rows
    Array.fill(batch.rows) {
      val output = new Array[Float](width)
      floats.get(output)
      output
    }
  }

  private def append(rows: ArrayBuffer[InternalRow], outputs: Array[Array[Float]]): Iterator[InternalRow] = {
    val joined = new JoinedRow
    rows.iterator.zip(outputs.iterator).map { case (row, output) =>
      joined(row, InternalRow(Prediction.of(output, binary), UnsafeArrayData.fromPrimitiveArray(output)))
    }
  }
}

private[ml] object Prediction {

  /** The class of the largest output, or of a lone probability, or the lone value itself. */
  def of(output: Array[Float], binary: Boolean): Double =
    if (output.length > 1) output.indices.maxBy(output(_)).toDouble
    else if (binary) { if (output.head > 0.5f) 1.0 else 0.0 }
    else output.head.toDouble
}
