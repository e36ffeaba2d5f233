// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.File
import java.nio.file.Files
import java.util.concurrent.CountDownLatch

import scala.collection.mutable
import scala.concurrent.{Await, Future}
import scala.concurrent.ExecutionContext.Implicits.global

import org.apache.hadoop.conf.Configuration
import org.apache.spark.TaskKilledException
import org.scalatest.time.SpanSugar._

import io.flambeau.{Samples, SparkSuite, StorageException}

class DirectoryWorkerSuite extends SparkSuite("local[2]") {

  private lazy val localDir = temporaryDirectory()

  override protected def settings: Map[String, String] = Map(
    "spark.hadoop.fs.stuck.impl" -> classOf[StuckFileSystem].getName,
    "spark.local.dir" -> localDir.toString,
    "spark.stage.maxConsecutiveAttempts" -> "1")

  /** What the ranks of this suite have left for their workers. */
  private def localCheckpoints: Int = {
    // Not `Files.walk`, which fails when a file goes while it looks.
    def within(folder: File): Seq[File] = Option(folder.listFiles).toSeq.flatten.flatMap(file => file +: within(file))
    within(localDir.toFile).count(_.getName.matches("""ckpt-\d+\.safetensors"""))
  }

  private def worker(isKilled: () => Boolean = () => false): DirectoryWorker = {
    val directory = new ModelDirectory(temporaryDirectory().toUri.toString, ModelDirectory.Owner("run"), new Configuration, 2)
    new DirectoryWorker(directory, isKilled)
  }

  test("work is done in order, and there is room for so much of it") {
    failAfter(30.seconds) {
      val (own, done, gate) = (worker(), mutable.Buffer.empty[Int], new CountDownLatch(1))
      own.start(_ => gate.await())
      var count = 0
      while (own.hasRoom) {
        val number = count
        own.start(_ => done += number)
        count += 1
      }
      assert(count > 1 && done.isEmpty)
      gate.countDown()
      assert(own.ask(_ => done.toList) == (0 until count).toList && own.hasRoom)
      own.close()
    }
  }

  test("what fails is told, and nothing is done behind it") {
    failAfter(30.seconds) {
      val own = worker()
      var later = false
      own.start(_ => throw new StorageException("no space", null))
      own.start(_ => later = true)
      assert(intercept[StorageException](own.finish()).getMessage == "no space")
      assertThrows[StorageException](own.ask(_ => later = true))
      assert(!later)
      own.close()
    }
  }

  test("a task that is killed does not wait for it") {
    failAfter(30.seconds) {
      val gate = new CountDownLatch(1)
      val own = worker(() => true)
      assertThrows[TaskKilledException](own.ask(_ => gate.await()))
      own.close()
      gate.countDown()
    }
  }

  test("a fit trains on while its checkpoint is copied, and is cancelled although the copy never ends") {
    failAfter(90.seconds) {
      val sc = spark.sparkContext
      val folder = temporaryDirectory()
      val fit = Future {
        sc.setJobGroup("stuck", "copies a checkpoint")
        Samples.estimator(2).setEpochs(1000000).setModelDir(s"stuck://$folder").fit(Samples.points(spark, 2000, 2))
      }
      while ((StuckFileSystem.reached.getCount > 0 || localCheckpoints < 3) && !fit.isCompleted) Thread.sleep(50)
      assert(!fit.isCompleted, fit.value)
      sc.cancelAllJobs()
      assertThrows[Exception](Await.result(fit, 10.seconds))
      val again = failAfter(20.seconds)(Samples.estimator(2).setEpochs(1).fit(Samples.points(spark, 2000, 2)))
      assert(again.history("loss").length == 1)
      StuckFileSystem.released.countDown()
      Thread.sleep(1000)
      assert(!Files.exists(folder.resolve("checkpoint")), "a late copy appeared")
    }
  }
}
