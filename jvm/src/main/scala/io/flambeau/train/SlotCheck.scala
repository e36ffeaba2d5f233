// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import scala.annotation.tailrec
import scala.concurrent.duration._

import org.apache.spark.{SparkConf, SparkContext}
import org.apache.spark.sql.flambeau.SparkInternals

import io.flambeau.ConfigException

/**
 * Refuses, before any job runs, a fit that the cluster can never start: all ranks must run at
 * once, of an asynchronous fit all servers and a worker. Spark itself would wait ten minutes before
 * it says so.
 */
private[train] object SlotCheck {
  private val Patience = 1500.millis
  private val RegistrationPatience = 30.seconds
  private val PollEvery = 50.millis

  private val LocalCluster = """local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*]""".r

  /** What the cluster can hold; `cores` are one executor's. */
  final case class Capacity(executors: Int, cores: Int, taskCpus: Int) {
    def slots: Int = executors * (cores / taskCpus)
  }

  /** What has to run at once: so many tasks, as `params` say. */
  private final case class Demand(tasks: Int, params: String, advice: Int => String)

  /** @throws ConfigException if `numWorkers` tasks, and one that evaluates, cannot run at once */
  def demand(sc: SparkContext, numWorkers: Int, evaluates: Boolean = false): Unit = {
    if (!sc.isLocal) refuseDynamicAllocation(sc.getConf)
    if (evaluates) {
      check(sc, Demand(numWorkers + 1, s"numWorkers=$numWorkers with an evaluator", _ => "fewer workers, or more executors or cores"))
    } else check(sc, Demand(numWorkers, s"numWorkers=$numWorkers", slots => s"numWorkers=$slots, or more executors or cores"))
  }

  /** @throws ConfigException if `servers` tasks and one more cannot run at once */
  def demandServed(sc: SparkContext, servers: Int): Unit =
    check(sc, Demand(servers + 1, s"strategy=async with numPs=$servers", _ => "a lower numPs, or more executors or cores"))

  /** @throws ConfigException if `workers` tasks, each of which holds a part of the weights, cannot run at once */
  def demandServing(sc: SparkContext, workers: Int): Unit =
    check(sc, Demand(workers, s"strategy=async with numPs=0 and numWorkers=$workers", _ => "fewer workers, or more executors or cores"))

  private def check(sc: SparkContext, demand: Demand): Unit =
    if (sc.isLocal) refuseIfFew(demand, SparkInternals.slots(sc), s"master ${sc.master}")
    else
      declared(sc.master, sc.getConf) match {
        case Some(capacity) =>
          refuseIfFew(demand, capacity.slots, describe(capacity))
          awaitRegistration(sc, demand.tasks, RegistrationPatience.fromNow)
        case None => await(sc, demand, Patience.fromNow)
      }

  /** What master and configuration promise, if they do. */
  def declared(master: String, conf: SparkConf): Option[Capacity] = {
    val taskCpus = conf.getInt("spark.task.cpus", 1)
    def number(key: String): Option[Int] = conf.getOption(key).map(_.toInt)
    master match {
      case LocalCluster(executors, cores) => Some(Capacity(executors.toInt, cores.toInt, taskCpus))
      case _ =>
        number("spark.executor.cores").flatMap { cores =>
          val executors = number("spark.executor.instances").orElse(number("spark.cores.max").map(_ / cores))
          executors.map(Capacity(_, cores, taskCpus))
        }
    }
  }

  /** @throws ConfigException if executors come and go, which Spark refuses for barrier stages */
  def refuseDynamicAllocation(conf: SparkConf): Unit = {
    val key = "spark.dynamicAllocation.enabled"
    if (conf.getBoolean(key, defaultValue = false)) {
      throw new ConfigException(
        s"$key=true: Spark does not run barrier stages with dynamic allocation (SPARK-24942). Try: --conf $key=false")
    }
  }

  /** Judges by the executors that have registered; before the first one has, Spark waits for it. */
  @tailrec
  private def await(sc: SparkContext, demand: Demand, deadline: Deadline): Unit = {
    val slots = SparkInternals.slots(sc)
    if (slots < demand.tasks) {
      if (deadline.hasTimeLeft()) {
        Thread.sleep(PollEvery.toMillis)
        await(sc, demand, deadline)
      } else if (slots > 0) {
        val executors = sc.statusTracker.getExecutorInfos.length - 1
        refuseIfFew(demand, slots, s"$executors executors have registered")
      }
    }
  }

  /** Waits for executors on their way: Spark looks for them only every 15 s once a job needs them. */
  @tailrec
  private def awaitRegistration(sc: SparkContext, tasks: Int, deadline: Deadline): Unit =
    if (SparkInternals.slots(sc) < tasks && deadline.hasTimeLeft()) {
      Thread.sleep(PollEvery.toMillis)
      awaitRegistration(sc, tasks, deadline)
    }

  private def describe(capacity: Capacity): String =
    s"${capacity.executors} executors x ${capacity.cores} cores, spark.task.cpus=${capacity.taskCpus}"

  private def refuseIfFew(demand: Demand, slots: Int, why: String): Unit =
    if (slots < demand.tasks) {
      throw new ConfigException(
        s"${demand.params} needs ${demand.tasks} task slots at once, but there are $slots ($why)." +
          s" Try: ${demand.advice(slots)}")
    }
}
