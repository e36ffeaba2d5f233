// SPDX-License-Identifier: Apache-2.0
package io.flambeau

import java.nio.file.{Files, Path}

import scala.concurrent.Await
import scala.concurrent.duration.{Duration, SECONDS}
import scala.jdk.CollectionConverters._
import scala.util.Try

import org.apache.spark.sql.SparkSession
import org.scalatest.BeforeAndAfterAll
import org.scalatest.concurrent.{Signaler, ThreadSignaler, TimeLimits}
import org.scalatest.funsuite.AnyFunSuite

/** A suite with a Spark session of its own, which ends with it. */
abstract class SparkSuite(master: String = "local[2]") extends AnyFunSuite with BeforeAndAfterAll with TimeLimits {

  /** A deadline that passes interrupts the test. */
  protected implicit val signaler: Signaler = ThreadSignaler

  protected def settings: Map[String, String] = Map.empty

  protected lazy val spark: SparkSession = {
    val builder = SparkSession
      .builder()
      .master(master)
      .appName(getClass.getSimpleName)
      .config("spark.ui.enabled", "false")
      .config("spark.sql.shuffle.partitions", "2")
      .config("spark.executor.extraClassPath", sys.props("java.class.path"))
      .config("spark.executor.memory", "1g")
      .config("spark.flambeau.libtorch", sys.props("flambeau.test.libtorch"))
    settings.foldLeft(builder) { case (session, (key, value)) => session.config(key, value) }.getOrCreate()
  }

  override protected def beforeAll(): Unit = SparkSession.setActiveSession(spark)

  override protected def afterAll(): Unit = spark.stop()

  /** Spark jobs that `body` started. */
  protected def jobsOf(body: => Any): Int = {
    val before = jobId()
    body
    jobId() - before - 1
  }

  /** That of a job of its own. */
  private def jobId(): Int = {
    val job = spark.sparkContext.parallelize(Seq(1), 1).countAsync()
    Await.result(job, Duration(30, SECONDS))
    job.jobIds.head
  }

  /** As `kill -9`, and waits for its end: executors of local-cluster are children of this JVM. */
  protected def killOneExecutor(): Unit = kill(executors.head)

  /** As [[killOneExecutor]]; false if the rank does not train in any. */
  protected def killExecutorOf(rank: Int): Boolean = {
    // The system keeps the first fifteen characters of a thread's name.
    val name = s"flambeau-$rank trainer".take(15)
    val victim = executors.find(executor => threadsOf(executor).contains(name))
    victim.foreach(kill)
    victim.isDefined
  }

  /** The executor of an id of Spark's, likewise. */
  protected def killExecutor(id: String): Unit =
    executors.find(commandLine(_).contains(s"--executor-id $id ")).fold(fail(s"no executor $id"))(kill)

  private def executors: Seq[ProcessHandle] =
    ProcessHandle.current.children.filter(_.info.command.orElse("").endsWith("java")).iterator.asScala.toSeq

  private def threadsOf(process: ProcessHandle): Seq[String] = {
    val tasks = Option(Path.of(s"/proc/${process.pid}/task").toFile.listFiles).toSeq.flatten
    // One that has just ended has no name.
    tasks.flatMap(task => Try(Files.readString(task.toPath.resolve("comm")).trim).toOption)
  }

  private def kill(executor: ProcessHandle): Unit = {
    assert(executor.destroyForcibly())
    executor.onExit().get()
  }

  private def commandLine(process: ProcessHandle): String =
    Files.readString(Path.of(s"/proc/${process.pid}/cmdline")).replace('\u0000', ' ')

  protected def temporaryDirectory(): Path = Files.createTempDirectory("flambeau-test")
}
