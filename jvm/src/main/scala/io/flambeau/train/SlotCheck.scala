// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import scala.annotation.tailrec
import scala.concurrent.duration._

import org.apache.spark.{SparkConf, SparkContext}
import org.apache.spark.sql.flambeau.SparkInternals

import io.flambeau.ConfigException

/**
 * Refuses, before any job runs, a fit that the cluster can never start: all ranks must run at
 * once. Spark itself would wait ten minutes before it says so.
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

  /** @throws ConfigException if `numWorkers` tasks cannot run at once */
  def demand(sc: SparkContext, numWorkers: Int): Unit = {
    if (sc.isLocal) {
      refuseIfFew(numWorkers, SparkInternals.slots(sc), s"master ${sc.master}")
    } else {
      refuseDynamicAllocation(sc.getConf)
      declared(sc.master, sc.getConf) match {
        case Some(capacity) =>
          refuseIfFew(numWorkers, capacity.slots, describe(capacity))
          awaitRegistration(sc, numWorkers, RegistrationPatience.fromNow)
        case None => await(sc, numWorkers, Patience.fromNow)
      }
    }
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
  private def await(sc: SparkContext, numWorkers: Int, deadline: Deadline): Unit = {
    val slots = SparkInternals.slots(sc)
    if (slots < numWorkers) {
      if (deadline.hasTimeLeft()) {
        Thread.sleep(PollEvery.toMillis)
        await(sc, numWorkers, deadline)
      } else if (slots > 0) {
        val executors = sc.statusTracker.getExecutorInfos.length - 1
        refuseIfFew(numWorkers, slots, s"$executors executors have registered")
      }
    }
  }

  /** Waits for executors on their way: Spark looks for them only every 15 s once a job needs them. */
  @tailrec
  private def awaitRegistration(sc: SparkContext, numWorkers: Int, deadline: Deadline): Unit =
    if (SparkInternals.slots(sc) < numWorkers && deadline.hasTimeLeft()) {
      Thread.sleep(PollEvery.toMillis)
      awaitRegistration(sc, numWorkers, deadline)
    }

  private def describe(capacity: Capacity): String =
    s"${capacity.executors} executors x ${capacity.cores} cores, spark.task.cpus=${capacity.taskCpus}"

  private def refuseIfFew(numWorkers: Int, slots: Int, why: String): Unit =
    if (slots < numWorkers) {
      throw new ConfigException(
        s"numWorkers=$numWorkers needs $numWorkers task slots at once, but there are $slots ($why)." +
          s" Try: numWorkers=$slots, or more executors or cores")
    }
}
