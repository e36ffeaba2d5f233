// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.ArrowBatcher
import org.apache.spark.sql.types.StructType

import io.flambeau.jni.Session

/**
 * Hands rows to a fit's session in batches, and looks at the session's events between them.
 *
 * @param schema the session's columns; each row has one more field, true for validation rows
 */
private[train] final class RowFeed(session: Session, events: RankEvents, schema: StructType) extends AutoCloseable {
  private val training = new ArrowBatcher(schema)
  private val validation = new ArrowBatcher(schema)
  private val validates = schema.length

  /** Takes rows until there are no more or the fit is done. Whether it wants more. */
  def take(rows: Iterator[InternalRow]): Boolean = {
    while (!events.isDone && rows.hasNext) {
      val row = rows.next()
      if (row.getBoolean(validates)) add(row, validation, Session.ValidationStream)
      else add(row, training, Session.TrainingStream)
    }
    !events.isDone
  }

  /** Ends a pass over the rows. */
  def endPass(): Unit = {
    flush(validation, Session.ValidationStream)
    flush(training, Session.TrainingStream)
    session.finish()
    events.handlePending()
  }

  override def close(): Unit = {
    training.close()
    validation.close()
  }

  private def add(row: InternalRow, batcher: ArrowBatcher, stream: Int): Unit = {
    batcher.add(row)
    if (batcher.isFull) flush(batcher, stream)
  }

  private def flush(batcher: ArrowBatcher, stream: Int): Unit = if (!batcher.isEmpty) {
    batcher.lend(session.feed(stream, _))
    events.handlePending()
  }
}
