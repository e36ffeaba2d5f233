// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicReference

import org.apache.spark.{ExceptionFailure, SparkContext, SparkException}
import org.apache.spark.scheduler.{SparkListener, SparkListenerJobStart, SparkListenerTaskEnd}

import io.flambeau.FlambeauException

/**
 * Remembers why tasks of one run failed, as the exception itself: Spark, when it has given up
 * retrying, only quotes it.
 */
private[train] final class TaskFailures(runId: String) extends SparkListener {
  import TaskFailures._

  private val stages = ConcurrentHashMap.newKeySet[Int]()
  private val last = new AtomicReference[Option[FlambeauException]](None)

  /** Runs `body`, whose jobs are the run's, and throws what its tasks failed with. */
  def watch[T](sc: SparkContext)(body: => T): T = {
    val before = sc.getLocalProperty(RunProperty)
    sc.setLocalProperty(RunProperty, runId)
    sc.addSparkListener(this)
    try body
    catch { case aborted: SparkException => throw cause().getOrElse(aborted) }
    finally {
      sc.removeSparkListener(this)
      sc.setLocalProperty(RunProperty, before)
    }
  }

  override def onJobStart(job: SparkListenerJobStart): Unit =
    if (Option(job.properties).exists(_.getProperty(RunProperty) == runId)) job.stageIds.foreach(stages.add(_))

  override def onTaskEnd(end: SparkListenerTaskEnd): Unit = end.reason match {
    case failure: ExceptionFailure if stages.contains(end.stageId) =>
      failure.exception.foreach {
        case error: FlambeauException => last.set(Some(error))
        case _ =>
      }
    case _ =>
  }

  /** The last failure, once the listener bus has brought it. */
  private def cause(): Option[FlambeauException] = {
    val deadline = System.nanoTime() + PatienceNanos
    while (last.get.isEmpty && System.nanoTime() < deadline) Thread.sleep(PollMillis)
    last.get
  }
}

private[train] object TaskFailures {
  private val RunProperty = "spark.flambeau.run"
  private val PatienceNanos = 1000L * 1000 * 1000
  private val PollMillis = 20L
}
