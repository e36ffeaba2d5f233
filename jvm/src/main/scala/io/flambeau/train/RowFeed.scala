// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{ArrowBatcher, SparkInternals}
import org.apache.spark.sql.types.StructType
import org.apache.spark.unsafe.types.UTF8String

import io.flambeau.FlambeauException
import io.flambeau.jni.Session

/**
 * Hands rows to a fit's session in batches, and looks at the session's events between them.
 *
 * @param schema the session's columns; each row has one more field, true for validation rows
 */
private[train] final class RowFeed(session: Session, events: RankEvents, schema: StructType) extends AutoCloseable {
  private val watch = new FeedWatch(session)
  private val training = new ArrowBatcher(schema)
  private val validation = new ArrowBatcher(schema)
  private val validates = schema.length
  private var file = UTF8String.EMPTY_UTF8
  private var gathered = Set.empty[UTF8String]
  private var fed = Set.empty[UTF8String]

  /** Takes rows until there are no more or the fit is done. Whether it wants more. */
  def take(rows: Iterator[InternalRow]): Boolean = {
    watch.setWaiting(true)
    try
      while (!events.isDone && !watch.isOver && rows.hasNext) {
        val row = rows.next()
        if (row.getBoolean(validates)) add(row, validation, Session.ValidationStream)
        else add(row, training, Session.TrainingStream)
      }
    catch {
      // Rows that are interrupted fail in ways of their own; why they were is what counts.
      case error: Throwable if watch.isOver && !error.isInstanceOf[FlambeauException] =>
        events.handlePending()
        throw error
    } finally watch.setWaiting(false)
    if (watch.isOver) events.handlePending()
    !events.isDone
  }

  /** The files that the last batch is of. The session refuses it when the next one comes. */
  def source: String = fed.map(_.toString).filter(_.nonEmpty).toSeq.sorted.mkString(", ")

  /** Says that all rows to validate with have come, if that is so before the first pass is over. */
  def endValidation(): Unit = end(validation, Session.ValidationStream)

  /** Ends a pass over the rows: with the first one, those to validate with have all come, too. */
  def endPass(): Unit = {
    flush(validation, Session.ValidationStream)
    end(training, Session.TrainingStream)
  }

  override def close(): Unit = {
    watch.close()
    training.close()
    validation.close()
  }

  private def end(batcher: ArrowBatcher, stream: Int): Unit = {
    flush(batcher, stream)
    watch.setWaiting(false)
    session.finish(stream)
    events.handlePending()
  }

  private def add(row: InternalRow, batcher: ArrowBatcher, stream: Int): Unit = {
    val now = SparkInternals.inputFile
    if (now ne file) {
      file = now
      gathered += now
    }
    batcher.add(row)
    if (batcher.isFull) flush(batcher, stream)
  }

  private def flush(batcher: ArrowBatcher, stream: Int): Unit = if (!batcher.isEmpty) {
    watch.setWaiting(false)
    batcher.lend(session.feed(stream, _))
    fed = gathered
    gathered = Set(file)
    events.handlePending()
    watch.setWaiting(true)
  }
}
