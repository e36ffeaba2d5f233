// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.util.concurrent.ConcurrentHashMap

import scala.collection.concurrent.TrieMap

import org.apache.spark.{ExceptionFailure, SparkContext, SparkException, TaskFailedReason, TaskKilled}
import org.apache.spark.scheduler.{SparkListener, SparkListenerJobStart, SparkListenerStageSubmitted, SparkListenerTaskEnd}

import io.flambeau.{CollectiveException, FlambeauException}

/**
 * Remembers why tasks of one run failed: the exception itself, which Spark only quotes once it has
 * given up retrying, and what Spark knows of its own, such as that a container was killed. Ends a job
 * that Spark would retry in vain.
 */
private[train] final class TaskFailures(runId: String, cancel: Int => Unit) extends SparkListener {
  import TaskFailures._

  private val stages = ConcurrentHashMap.newKeySet[Int]()
  /** With the rank of their first task. */
  private val rankStages = TrieMap.empty[Int, Int]
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

  override def onStageSubmitted(stage: SparkListenerStageSubmitted): Unit =
    stage.stageInfo.rddInfos.foreach { rdd =>
      val first = if (rdd.isBarrier) Some(0) else ServedJob.firstRankOf(rdd.name)
      first.foreach(rankStages.put(stage.stageInfo.stageId, _))
    }

  override def onTaskEnd(end: SparkListenerTaskEnd): Unit = end.reason match {
    case failure: TaskFailedReason if stages.contains(end.stageId) => took(failure, end)
    case _ =>
  }

  private def took(failure: TaskFailedReason, end: SparkListenerTaskEnd): Unit = {
    val first = rankStages.get(end.stageId)
    val index = end.taskInfo.index + first.getOrElse(0)
    val task = Task(end.stageId, end.stageAttemptId, index, end.taskInfo.host, first.isDefined)
    val vain = synchronized {
      failure match {
        case _: TaskKilled => false // by Spark, since another one failed or the job is over
        case thrown: ExceptionFailure =>
          thrown.exception match {
            case Some(error: FlambeauException) =>
              // What follows from a failure that no retry can mend does not hide it.
              if (!reported.exists(known => known.task.attempt == task.attempt && !known.error.isRetryable)) {
                reported = Some(Reported(task, error))
              }
              !error.isRetryable
            case foreign =>
              ended = Some(EndedBySpark(task, s"${thrown.className}: ${thrown.description}", foreign))
              false
          }
        case other =>
          ended = Some(EndedBySpark(task, other.toErrorString.linesIterator.mkString(" "), None))
          false
      }
    }
    if (vain) jobs.forEach(job => cancel(job))
  }

  /** What to throw instead of `aborted`, once the listener bus has brought it. */
  private def cause(aborted: SparkException): Exception = {
    val deadline = System.nanoTime() + PatienceNanos
    while (synchronized(!isExplained) && System.nanoTime() < deadline) Thread.sleep(PollMillis)
    synchronized(verdict(aborted))
  }

  /** A lost rank is explained by Spark, anything else by the rank itself. */
  private def isExplained: Boolean = reported.exists(!_.error.isRetryable) || (reported.nonEmpty && ended.nonEmpty)

  private def verdict(aborted: SparkException): Exception = (reported, ended) match {
    case (Some(Reported(task, error)), _) if !error.isRetryable =>
      causedBy(if (task.isRank) error.onRank(task.index) else error, aborted)
    case (_, Some(EndedBySpark(task, words, Some(thrown)))) =>
      // What made the rows failed: no rank knows more of it.
      new FlambeauException(s"$task failed while rows were made: $words", thrown)
    case (Some(Reported(_, error)), Some(EndedBySpark(task, words, _))) =>
      causedBy(error.withWordsOfSpark(s"$task ended: $words"), aborted)
    case (None, Some(EndedBySpark(task, words, _))) if task.isRank =>
      // Spark has ended the other tasks before they could report what they saw of it.
      causedBy(new CollectiveException(s"lost $task").withWordsOfSpark(words), aborted)
    case (Some(Reported(_, error)), None) => causedBy(error, aborted)
    case (None, _) => aborted
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

  /** A task of the run, of a rank or of what makes its rows. */
  private final case class Task(stage: Int, attempt: Int, index: Int, host: String, isRank: Boolean) {
    override def toString: String = if (isRank) s"rank $index ($host)" else s"task $index of stage $stage ($host)"
  }

  /** What a task threw that is Flambeau's. */
  private final case class Reported(task: Task, error: FlambeauException)

  /** How a task ended that threw nothing of Flambeau's; `thrown` is what it threw instead. */
  private final case class EndedBySpark(task: Task, words: String, thrown: Option[Throwable])
}
