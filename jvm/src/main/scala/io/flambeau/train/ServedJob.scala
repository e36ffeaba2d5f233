// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.util.concurrent.ConcurrentLinkedQueue

import scala.concurrent.{Await, ExecutionContext, Future, Promise}
import scala.concurrent.duration._
import scala.jdk.CollectionConverters._
import scala.util.Try

import org.apache.spark.{FutureAction, SparkContext, TaskFailedReason}
import org.apache.spark.rdd.RDD
import org.apache.spark.scheduler.{SparkListener, SparkListenerTaskEnd}

import io.flambeau.{CollectiveException, ConfigException}

/**
 * Asynchronous training in two jobs: first the servers, and once they run the workers, which find them
 * without the driver. Spark retries each task by itself. The first ranks are those of the servers. Where
 * workers are servers, too, there is one job.
 */
private[train] object ServedJob {
  private val PollMillis = 20L

  /** So long the others may take to hear of an error that a retry would meet again. */
  private val Patience = 5.seconds

  /** Before the rank of a stage's first task, in the name of what the stage computes. */
  private val Name = "flambeau ranks from "

  /** The rank of the first task of a stage with an RDD of this name, if it runs ranks. */
  def firstRankOf(name: String): Option[Int] =
    Option(name).filter(_.startsWith(Name)).map(_.drop(Name.length).toInt)

  /** @throws ConfigException if those that hold weights and a worker cannot run at once, or Spark starts tasks twice */
  def check(sc: SparkContext, servers: Int, workers: Int): Unit = {
    val key = "spark.speculation"
    if (sc.getConf.getBoolean(key, defaultValue = false)) {
      throw new ConfigException(
        s"strategy=async, but $key=true: Spark would start slow servers and workers a second time, which ends the " +
          s"first. Try: --conf $key=false")
    }
    if (servers == 0) SlotCheck.demandServing(sc, workers) else SlotCheck.demandServed(sc, servers)
  }

  /** What all ranks came to, as far as they did. */
  def run(sources: RDD[RankSource], servers: Int, task: FitTask): Seq[Outcome] = {
    val sc = sources.sparkContext
    val outcomes = new Outcomes
    val ranks = servers + sources.getNumPartitions
    def idle = sc.parallelize(Seq.fill[RankSource](servers)(NoRows), servers)
    val serving = submit(if (servers == 0) sources else idle, 0, ranks, task, outcomes)
    var working = Option.empty[FutureAction[Unit]]
    def actions = serving +: working.toSeq
    val watch = new ServerWatch(sc, serving, outcomes)
    sc.addSparkListener(watch)
    try {
      if (servers > 0) {
        awaitTasks(sc, serving, servers)
        if (!serving.isCompleted) working = Some(submit(sources, servers, ranks, task, outcomes))
      }
      awaitAll(actions, outcomes, watch.lost)
    } finally {
      sc.removeSparkListener(watch)
      actions.filterNot(_.isCompleted).foreach(_.cancel())
    }
    outcomes.all
  }

  private def submit(
      sources: RDD[RankSource],
      first: Int,
      ranks: Int,
      task: FitTask,
      outcomes: Outcomes): FutureAction[Unit] = {
    val ended = sources
      .mapPartitions(own => task.runByItself(own.next(), first, ranks).map(OutcomeBytes.encode))
      .setName(s"$Name$first")
    sources.sparkContext.submitJob[Array[Byte], Array[Byte], Unit](
      ended, _.next(), 0 until ended.getNumPartitions, (_, outcome) => outcomes.add(outcome), ())
  }

  /** Waits until `count` tasks of a job run, or it has ended: its tasks then go before any later ones. */
  private def awaitTasks(sc: SparkContext, action: FutureAction[Unit], count: Int): Unit = {
    def running = {
      val stages = action.jobIds.flatMap(sc.statusTracker.getJobInfo(_)).flatMap(_.stageIds())
      stages.flatMap(sc.statusTracker.getStageInfo(_)).map(_.numActiveTasks()).sum
    }
    while (!action.isCompleted && running < count) Thread.sleep(PollMillis)
  }

  /** Waits until the servers have ended well, or something has not; the others then end soon. */
  private def awaitAll(actions: Seq[FutureAction[Unit]], outcomes: Outcomes, lost: Future[Unit]): Unit = {
    implicit val here: ExecutionContext = ExecutionContext.parasitic
    val allDone = Future.sequence(actions.map(action => action: Future[Unit])).map(_ => ())
    val failed = Promise[Unit]()
    (actions.map(_.failed) :+ lost.failed).foreach(_.foreach(failed.tryFailure))
    Await.ready(Future.firstCompletedOf(Seq(actions.head, failed.future, outcomes.hasFailed)), Duration.Inf)
    Try(Await.ready(allDone, Patience))
    // What a rank came to says more than how a job ended that was cancelled for it.
    if (!outcomes.isDecided) failed.future.value.foreach(_.get)
  }

  /**
   * Sees that a server is lost when workers have ended, whose tasks Spark does not start again: the next
   * servers would wait for them.
   */
  private final class ServerWatch(sc: SparkContext, serving: FutureAction[Unit], outcomes: Outcomes) extends SparkListener {
    private val seen = Promise[Unit]()

    /** Fails when that is so. */
    def lost: Future[Unit] = seen.future

    override def onTaskEnd(end: SparkListenerTaskEnd): Unit = end.reason match {
      case failure: TaskFailedReason if outcomes.workersHaveEnded && isOfServers(end.stageId) =>
        seen.tryFailure(new CollectiveException(
          s"server ${end.taskInfo.index} (${end.taskInfo.host}) was lost when some workers had ended. Try: the same fit " +
            s"again, which goes on from the last checkpoint in modelDir. Spark says: ${failure.toErrorString}"))
      case _ =>
    }

    private def isOfServers(stage: Int): Boolean =
      serving.jobIds.flatMap(sc.statusTracker.getJobInfo(_)).exists(_.stageIds().contains(stage))
  }

  /** What has come, from Spark's own thread. */
  private final class Outcomes {
    private val come = new ConcurrentLinkedQueue[Outcome]
    private val failed = Promise[Unit]()

    /** Done once a rank has met what a retry would meet again. */
    def hasFailed: Future[Unit] = failed.future

    def add(bytes: Array[Byte]): Unit = {
      val outcome = OutcomeBytes.decode(bytes)
      come.add(outcome)
      outcome match {
        case Failed(_, _) => failed.trySuccess(())
        case Trained(_) | Followed =>
      }
    }

    /** Whether some rank but the first has ended well. */
    def workersHaveEnded: Boolean = come.contains(Followed)

    /** Whether some rank knows what the fit came to. */
    def isDecided: Boolean = all.exists(_ != Followed)

    def all: Seq[Outcome] = come.asScala.toSeq
  }
}
