// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.util.concurrent.ConcurrentHashMap

import org.apache.spark.{ExceptionFailure, SparkContext, SparkException, TaskFailedReason, TaskKilled}
import org.apache.spark.scheduler.{SparkListener, SparkListenerJobStart, SparkListenerTaskEnd}

import io.flambeau.{CollectiveException, FlambeauException}

/**
 * Remembers why tasks of one run failed: the exception itself, which Spark only quotes once it has
 * given up retrying, and what Spark knows of its own, such as that a container was killed. Ends a job
 * that Spark would retry in vain.
 */
private[train] final class TaskFailures(runId: String, cancel: Int => Unit) extends SparkListener {
  import TaskFailures._

  private val stages = ConcurrentHashMap.newKeySet[Int]()
  private val jobs = ConcurrentHashMap.newKeySet[Int]()
  private var reported = Option.empty[Reported]
  private var ended = Option.empty[EndedBySpark]

  /** Runs `body`, whose jobs are the run's, and throws what its tasks failed with. */
  def watch[T](sc: SparkContext)(body: => T): T = {
    val before = sc.getLocalProperty(RunProperty)
    sc.setLocalProperty(RunProperty, runId)
    sc.addSparkListener(this)
    try body
    catch { case aborted: SparkException => throw cause(aborted) }
    finally {
      sc.removeSparkListener(this)
      sc.setLocalProperty(RunProperty, before)
    }
  }

  override def onJobStart(job: SparkListenerJobStart): Unit =
    if (Option(job.properties).exists(_.getProperty(RunProperty) == runId)) {
      job.stageIds.foreach(stages.add(_))
      jobs.add(job.jobId)
    }

  override def onTaskEnd(end: SparkListenerTaskEnd): Unit = end.reason match {
    case failure: TaskFailedReason if stages.contains(end.stageId) =>
      took(failure, end.stageAttemptId, end.taskInfo.index, end.taskInfo.host)
    case _ =>
  }

  /** Remembers how the task that is `rank` ended. */
  private[train] def took(failure: TaskFailedReason, attempt: Int, rank: Int, host: String): Unit = {
    val vain = synchronized {
      failure match {
        case _: TaskKilled => None // by Spark, since another one failed or the job is over
        case thrown: ExceptionFailure =>
          thrown.exception match {
            case Some(error: FlambeauException) =>
              // What ends a rank first is nearest to the cause, unless a later one explains it.
              if (!reported.exists(known => known.attempt == attempt && !known.error.isRetryable)) {
                reported = Some(Reported(attempt, rank, error))
              }
              Option.when(!error.isRetryable)(error)
            case foreign =>
              ended = Some(EndedBySpark(rank, host, s"${thrown.className}: ${thrown.description}", foreign))
              None
          }
        case other =>
          ended = Some(EndedBySpark(rank, host, other.toErrorString.linesIterator.mkString(" "), None))
          None
      }
    }
    vain.foreach(_ => jobs.forEach(job => cancel(job)))
  }

  /** What to throw instead of `aborted`, once the listener bus has brought it. */
  private def cause(aborted: SparkException): Exception = {
    val deadline = System.nanoTime() + PatienceNanos
    while (synchronized(!isExplained) && System.nanoTime() < deadline) Thread.sleep(PollMillis)
    synchronized(verdict(aborted))
  }

  /** A lost rank is explained by Spark, anything else by the rank itself. */
  private def isExplained: Boolean = reported.exists(!_.error.isRetryable) || (reported.nonEmpty && ended.nonEmpty)

  private[train] def verdict(aborted: SparkException): Exception = (reported, ended) match {
    case (Some(Reported(_, rank, error)), _) if !error.isRetryable => causedBy(error.onRank(rank), aborted)
    case (_, Some(EndedBySpark(rank, host, words, Some(thrown)))) =>
      // A rank's own rows failed: no other rank knows more of it.
      new FlambeauException(s"rank $rank ($host) failed while its rows were made: $words", thrown)
    case (Some(Reported(_, _, error)), Some(EndedBySpark(rank, host, words, _))) =>
      causedBy(error.withWordsOfSpark(s"rank $rank ($host) ended: $words"), aborted)
    case (None, Some(EndedBySpark(rank, host, words, _))) =>
      // Spark has ended the other tasks before they could report what they saw of it.
      causedBy(new CollectiveException(s"lost rank $rank ($host)").withWordsOfSpark(words), aborted)
    case (Some(Reported(_, _, error)), None) => causedBy(error, aborted)
    case (None, None) => aborted
  }

  /** With Spark's own exception, which tells of all attempts, at the end of its causes. */
  private def causedBy(error: FlambeauException, aborted: SparkException): FlambeauException = {
    if (error.getCause == null) error.initCause(aborted)
    error
  }
}

private[train] object TaskFailures {
  private val RunProperty = "spark.flambeau.run"
  private val PatienceNanos = 2L * 1000 * 1000 * 1000
  private val PollMillis = 20L

  /** Of `sc`, where a job is cancelled that would be retried in vain. */
  def of(runId: String, sc: SparkContext): TaskFailures =
    new TaskFailures(runId, sc.cancelJob(_, "a failure that every retry would meet again"))

  /** What a task of Flambeau threw. */
  private final case class Reported(attempt: Int, rank: Int, error: FlambeauException)

  /** How a task ended that threw nothing of Flambeau's; `thrown` is what it threw instead. */
  private final case class EndedBySpark(rank: Int, host: String, words: String, thrown: Option[Throwable])
}
