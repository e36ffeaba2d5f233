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

import io.flambeau.jni.{Columns, Device, NativeLibrary, Session}

/**
 * Predicts the rows of one partition, a batch at a time: each row comes out with a prediction and
 * the raw values of every output appended, in order. The session lives as long as the task.
 *
 * @param schema of the rows
 */
private[ml] final class PartitionPrediction(
    columns: Columns,
    schema: StructType,
    model: Broadcast[Array[Byte]],
    outputs: Seq[ModelOutput],
    device: Device)
    extends Serializable {

  def apply(rows: Iterator[InternalRow]): Iterator[InternalRow] =
    if (rows.isEmpty) Iterator.empty
    else {
      NativeLibrary.load()
      val task = TaskContext.get()
      val input = columns.of(schema)
      val config =
        ("kind" -> "predict") ~
          ("threads" -> task.cpus()) ~
          ("device" -> device.json(task, task.partitionId())) ~
          ("columns" -> columns.json)
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
        append(kept, batcher.lend(batch => predicted(session, batch)))
      }
    }

  /** The values of each output, row by row, as `Predictor.predict` lays them out. */
  private def predicted(session: Session, batch: ArrowBatch): Seq[Array[Array[Float]]] = {
    val bytes = ByteBuffer.wrap(session.transform(batch)).order(ByteOrder.LITTLE_ENDIAN)
    val widths = Seq.fill(bytes.getInt())(bytes.getInt())
    val floats = bytes.asFloatBuffer()
    widths.map { width =>
      Array.fill(batch.rows) {
        val output = new Array[Float](width)
        floats.get(output)
        output
      }
    }
  }

  private def append(rows: ArrayBuffer[InternalRow], values: Seq[Array[Array[Float]]]): Iterator[InternalRow] = {
    val joined = new JoinedRow
    rows.iterator.zipWithIndex.map { case (row, at) =>
      val added = outputs.zip(values).flatMap { case (output, rows) =>
        Seq(Prediction.of(rows(at), output.meaning), UnsafeArrayData.fromPrimitiveArray(rows(at)))
      }
      joined(row, InternalRow.fromSeq(added))
    }
  }
}

private[ml] object Prediction {

  /**
   * The class of the greatest score; 1 above the threshold, else 0; or the value itself. Null where
   * several values or answers are no single number: they are in the output column.
   */
  def of(output: Array[Float], meaning: Meaning): Any = meaning match {
    case Meaning.Classes if output.length > 1 => output.indices.maxBy(output(_)).toDouble
    case Meaning.Binary(threshold) if output.length == 1 => if (output.head > threshold) 1.0 else 0.0
    case _ if output.length == 1 => output.head.toDouble
    case _ => null
  }
}
