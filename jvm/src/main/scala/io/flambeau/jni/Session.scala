// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import java.nio.file.Path
import java.util.concurrent.atomic.AtomicBoolean

import org.apache.spark.{TaskContext, TaskKilledException}
import org.apache.spark.sql.flambeau.ArrowBatch
import org.json4s.JValue
import org.json4s.jackson.JsonMethods.{compact, parse}

import io.flambeau.{ConfigException, DataException}

/**
 * The owner of one native session; closes it once. Calls that wait look out for the end of the
 * Spark task and then cancel the session, so a killed task ends within 2 s.
 */
final class Session private (handle: Long, interrupted: () => Boolean) extends AutoCloseable {
  import Session.plainly

  private val closed = new AtomicBoolean

  /** Hands over one batch, waiting for room: native code's backpressure. */
  def feed(stream: Int, batch: ArrowBatch): Unit =
    while (!Native.feed(handle, stream, batch.rows, batch.nodes, batch.buffers)) endIfInterrupted()

  /**
   * Ends a stream, waiting for room: that of training rows with each pass over them, the only one unless
   * they are fed anew in each; that of validation rows once, with the first pass at the latest.
   */
  def finish(stream: Int): Unit = while (!Native.finish(handle, stream)) endIfInterrupted()

  /** Has an evaluator measure a local checkpoint; an event tells what came of it. */
  def evaluate(checkpoint: Path): Unit = Native.evaluate(handle, checkpoint.toString)

  /** The next event, if one comes in time. */
  def poll(timeoutMillis: Int): Option[JValue] = {
    endIfInterrupted()
    try Option(Native.poll(handle, timeoutMillis)).map(parse(_))
    finally NativeLog.take()
  }

  /** The result of one batch, as its kind defines it. */
  def transform(batch: ArrowBatch): Array[Byte] = {
    endIfInterrupted()
    plainly(Native.transform(handle, batch.rows, batch.nodes, batch.buffers))
  }

  /**
   * Hands over bytes of a file, and gets the next batch of its records if that was enough.
   *
   * @param length bytes to take of `bytes`; 0 for none, -1 if the file has ended
   */
  def decode(bytes: Array[Byte], length: Int): Option[DecodedBatch] = {
    endIfInterrupted()
    Option(plainly(Native.decode(handle, bytes, length))).map(DecodedBatch.of)
  }

  /** Whether its next call would throw: because it has failed, or Spark ends the task; from any thread. */
  def isOver: Boolean = interrupted() || (!closed.get && Native.hasFailed(handle))

  /** Ends running calls; from any thread. */
  def cancel(): Unit = if (!closed.get) Native.cancel(handle)

  override def close(): Unit = if (closed.compareAndSet(false, true)) {
    try Native.close(handle)
    finally NativeLog.take()
  }

  private def endIfInterrupted(): Unit =
    if (interrupted()) {
      NativeLog.take()
      cancel()
      throw new TaskKilledException
    }
}

object Session {

  /** Training rows, and rows that only validate. */
  val TrainingStream = 0
  val ValidationStream = 1

  /**
   * Opens a session that the running Spark task, if there is one, closes when it ends. The native
   * library must be loaded.
   *
   * @param model Keras JSON, .keras or .h5 bytes, null for kinds without a model
   * @param secret what the ranks of one fit share, null for other kinds
   * @param weights the files of a fit's initial weights one after the other, or null
   */
  def open(
      config: JValue,
      schema: Array[Byte],
      model: Array[Byte],
      secret: Array[Byte],
      weights: Array[Byte] = null): Session = {
    val task = Option(TaskContext.get())
    val session = new Session(
      plainly(Native.open(compact(config), schema, model, weights, secret)),
      () => task.exists(_.isInterrupted()))
    task.foreach(_.addTaskCompletionListener[Unit](_ => session.close()))
    session
  }

  /**
   * What the user has to mend is said by the message; where this task found it says nothing, and
   * Spark would print it with every retry.
   */
  private def plainly[T](call: => T): T =
    try call
    catch {
      case error @ (_: ConfigException | _: DataException) =>
        error.setStackTrace(Array.empty)
        throw error
    }

  /** Whether this process has kept the model that a micro-batch of a stream goes on from. */
  def holds(stream: String, number: Long): Boolean = Native.holds(stream, number)

  /** Sessions open in this process. */
  def live: Int = Native.liveSessions()
}
