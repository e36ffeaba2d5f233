// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import io.flambeau.jni.Session

/**
 * Looks out for the end of a session, or of its task, while the task's own thread waits for rows of
 * what comes before it and can look at nothing. A thread that still waits a second later is
 * interrupted: what it waits for is not wanted any more.
 */
private[train] final class FeedWatch(session: Session) extends AutoCloseable {
  import FeedWatch._

  private val feeder = Thread.currentThread
  private var closed = false
  private var interrupted = false
  private var waiting = false
  @volatile private var over = false

  private val thread = new Thread(() => watch(), s"flambeau-watch of ${feeder.getName}")
  thread.setDaemon(true)
  thread.start()

  /** Whether the session's next call would throw. */
  def isOver: Boolean = over

  /** Says whether the thread is where it waits for rows: only there it is interrupted. */
  def setWaiting(waits: Boolean): Unit = synchronized { waiting = waits }

  /** Ends the watch; an interruption by it does not outlast it. */
  override def close(): Unit = {
    synchronized {
      closed = true
      notifyAll()
    }
    if (interrupted) Thread.interrupted()
  }

  private def watch(): Unit = synchronized {
    while (!closed && !over) {
      wait(TickMillis)
      over = session.isOver
    }
    if (!closed) wait(PatienceMillis)
    while (!closed && !interrupted) {
      if (waiting) {
        interrupted = true
        feeder.interrupt()
      } else wait(TickMillis)
    }
  }
}

private[train] object FeedWatch {
  private val TickMillis = 100L
  private val PatienceMillis = 1000L
}
