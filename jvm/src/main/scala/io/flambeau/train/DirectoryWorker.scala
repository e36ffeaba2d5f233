// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.util.concurrent.{ExecutionException, Executors, Future, TimeUnit, TimeoutException}

import scala.annotation.tailrec
import scala.collection.mutable

import org.apache.spark.TaskKilledException

/**
 * A model directory's own thread: a file system that takes its time holds up neither the rows of a fit nor
 * the end of a task that Spark kills. Work is done in the order in which it is given; once some has failed
 * the rest is left out, and the next call here throws the failure.
 *
 * @param isKilled whether the task is to end; what is under way then is left to itself
 */
private[train] final class DirectoryWorker(directory: ModelDirectory, isKilled: () => Boolean) extends AutoCloseable {
  import DirectoryWorker._

  private val underWay = mutable.Queue.empty[Future[_]]
  @volatile private var failure = Option.empty[Throwable]

  private val thread = Executors.newSingleThreadExecutor { work =>
    val thread = new Thread(work, s"flambeau-directory of ${Thread.currentThread.getName}")
    thread.setDaemon(true)
    thread
  }

  /** Throws the failure of work that is done. */
  def check(): Unit = while (underWay.headOption.exists(_.isDone)) await(underWay.dequeue())

  /** Whether there is room for more work, at once or within a tenth of a second. */
  def hasRoom: Boolean = {
    check()
    if (underWay.size >= Room) endsSoon(underWay.head)
    check()
    underWay.size < Room
  }

  /** Has `work` done behind all that was given before. */
  def start(work: ModelDirectory => Unit): Unit = underWay.enqueue(submit(work))

  /** What `work` gives, behind all that was given before. */
  def ask[T](work: ModelDirectory => T): T = {
    val asked = submit(work)
    finish()
    await(asked)
  }

  /** Returns once all work is done. */
  @tailrec
  def finish(): Unit = if (underWay.nonEmpty) {
    await(underWay.dequeue())
    finish()
  }

  /** Leaves out the work that has not begun, and does not wait for the rest. */
  override def close(): Unit = thread.shutdownNow()

  private def submit[T](work: ModelDirectory => T): Future[T] = thread.submit { () =>
    failure.foreach(throw _)
    try work(directory)
    catch {
      case error: Throwable =>
        failure = Some(error)
        throw error
    }
  }

  @tailrec
  private def await[T](work: Future[T]): T =
    if (endsSoon(work)) {
      try work.get()
      catch { case error: ExecutionException => throw error.getCause }
    } else if (isKilled()) throw new TaskKilledException
    else await(work)

  private def endsSoon(work: Future[_]): Boolean =
    try {
      work.get(TickMillis, TimeUnit.MILLISECONDS)
      true
    } catch {
      case _: TimeoutException => false
      case _: ExecutionException => true
    }
}

private[train] object DirectoryWorker {
  private val TickMillis = 100L

  /** Pieces of work under way at once: those of some checkpoints, each of a few files. */
  private val Room = 16
}
