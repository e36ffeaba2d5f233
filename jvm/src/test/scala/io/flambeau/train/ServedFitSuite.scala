// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.Files

import scala.collection.concurrent.TrieMap
import scala.concurrent.{Await, Future}
import scala.concurrent.ExecutionContext.Implicits.global

import org.apache.spark.TaskFailedReason
import org.apache.spark.scheduler.{SparkListener, SparkListenerStageSubmitted, SparkListenerTaskEnd}
import org.apache.spark.sql.functions.{col, when}
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, DataException, Samples, SparkSuite}
import io.flambeau.ml.KerasEstimator

/** Asynchronous training: tasks that hold the weights, and workers that come and go. */
class ServedFitSuite extends SparkSuite("local-cluster[3,1,1024]") {

  private def estimator(servers: Int, workers: Int): KerasEstimator =
    Samples.estimator(workers).setStrategy("async").setNumPs(servers)

  test("servers and workers learn together, with rows to validate") {
    failAfter(180.seconds) {
      val data = Samples.points(spark, 1000, 4).withColumn("held", col("id") % 5 === 0)
      for ((servers, workers) <- Seq((1, 2), (2, 1), (0, 3))) {
        val model = estimator(servers, workers).setEpochs(8).setValidationIndicatorCol("held").fit(data)
        assert(model.history("loss").length == 8 && model.history("accuracy").last > 0.85)
        assert(model.history("val_accuracy").last > 0.8)
      }
    }
  }

  test("one worker trains as it would without a server") {
    failAfter(120.seconds) {
      val data = Samples.points(spark, 500, 2)
      val alone = Samples.estimator(1).fit(data).history("loss").toSeq
      for (servers <- Seq(1, 0)) assert(estimator(servers, 1).fit(data).history("loss").toSeq == alone)
    }
  }

  test("workers that find no slot at first train when others are done") {
    failAfter(180.seconds) {
      val model = estimator(1, 4).fit(Samples.points(spark, 800, 4))
      assert(model.history("loss").length == 3)
    }
  }

  test("workers read files by themselves, up to so many steps of all") {
    failAfter(180.seconds) {
      val files = temporaryDirectory().resolve("points").toString
      Samples.points(spark, 2000, 6).write.format("tfrecord").save(files)
      val data = spark.read.format("tfrecord").load(files)
      val asked = estimator(1, 2).setInputMode("direct").setMaxStaleness(4).setMaxSteps(300)
      val trained = asked.clear(asked.epochs).asInstanceOf[KerasEstimator].fit(data)
      assert(trained.history("accuracy").last > 0.8)
    }
  }

  test("a worker that is killed is missed by nobody") {
    failAfter(200.seconds) {
      val (failed, steps) = killed(estimator(1, 2), victim = 2)
      assert(failed == Set(2), "others failed, too")
      assert(steps == steps.sorted, "steps were trained twice")
    }
  }

  test("where a server is killed all go on from the checkpoint") {
    failAfter(400.seconds) {
      for ((servers, workers, victim) <- Seq((1, 2, 0), (0, 3, 1))) {
        val (failed, steps) = killed(estimator(servers, workers), victim)
        assert(failed == Set(0, 1, 2))
        assert(steps == steps.sorted, "they began anew")
      }
    }
  }

  /**
   * Kills the executor of rank `victim` when there is a checkpoint, and sees that the fit ends well: the
   * ranks of the tasks that have failed, and the newest checkpoint's steps as they were from then on.
   */
  private def killed(estimator: KerasEstimator, victim: Int): (Set[Int], Seq[Long]) = {
    val folder = temporaryDirectory()
    val pointer = folder.resolve("checkpoint")
    def newest: Option[Long] =
      Option.when(Files.exists(pointer))(Files.readString(pointer)).flatMap(CheckpointPointer.read).map(_.steps.last)
    val failures = new Failures
    // One of another test may still be on its way: then a worker would not be there to hear of the loss.
    while (spark.sparkContext.statusTracker.getExecutorInfos.length < 4) Thread.sleep(50)
    spark.sparkContext.addSparkListener(failures)
    try {
      val asked = estimator.setEpochs(40).setCheckpointEverySteps(50).setModelDir(folder.toUri.toString)
      val fit = Future(asked.fit(Samples.points(spark, 4000, 3)))
      while (newest.isEmpty && !fit.isCompleted) Thread.sleep(20)
      assert(killExecutorOf(victim))
      val steps = Seq.newBuilder[Long]
      while (!fit.isCompleted) {
        steps ++= newest
        Thread.sleep(20)
      }
      val model = Await.result(fit, 1.second)
      assert(model.history("loss").length == 40 && model.history("accuracy").last > 0.9)
      (failures.ranks, steps.result())
    } finally spark.sparkContext.removeSparkListener(failures)
  }

  /** Ranks whose tasks have failed. */
  private final class Failures extends SparkListener {
    private val first = TrieMap.empty[Int, Int]
    private val failed = TrieMap.empty[Int, Unit]

    def ranks: Set[Int] = failed.keySet.toSet

    override def onStageSubmitted(stage: SparkListenerStageSubmitted): Unit =
      stage.stageInfo.rddInfos.flatMap(rdd => ServedJob.firstRankOf(rdd.name)).foreach(first.put(stage.stageInfo.stageId, _))

    override def onTaskEnd(end: SparkListenerTaskEnd): Unit = end.reason match {
      case _: TaskFailedReason => first.get(end.stageId).foreach(rank => failed.put(rank + end.taskInfo.index, ()))
      case _ =>
    }
  }

  test("an error of one worker ends the fit, and is named") {
    failAfter(60.seconds) {
      val data = Samples.points(spark, 1000, 2)
      val wrong = data.withColumn("label", when(col("id") === 999, 77).otherwise(col("label")))
      val error = intercept[DataException](estimator(1, 2).setEpochs(100000).fit(wrong))
      assert(error.getMessage.matches("(?s)rank [12]: label 77 of column 'label'.*"), error.getMessage)
    }
  }

  test("what cannot be is refused before any job") {
    failAfter(60.seconds) {
      val data = Samples.points(spark, 100, 2)
      def refused(estimator: KerasEstimator): String = intercept[ConfigException](estimator.fit(data)).getMessage
      val jobs = jobsOf {
        assert(refused(estimator(3, 1)).contains("strategy=async with numPs=3 needs 4 task slots at once, but there are 3"))
        assert(refused(estimator(0, 4)).contains("strategy=async with numPs=0 and numWorkers=4 needs 4 task slots at once"))
        assert(refused(Samples.estimator(1).setNumPs(2)).contains("numPs is set, but strategy is sync"))
        assert(refused(estimator(1, 1).setStepsPerEpoch(3)).contains("stepsPerEpoch"))
        assert(refused(estimator(1, 1).setLocalSteps(3)).contains("localSteps"))
      }
      assert(jobs == 0)
      val stream = intercept[ConfigException](estimator(1, 1).setModelDir("/nowhere").fitBatch(data, 0))
      assert(stream.getMessage.contains("strategy is async"))
    }
  }

  test("a cancelled fit frees its executors within seconds") {
    failAfter(120.seconds) {
      val data = Samples.points(spark, 2000, 2)
      val fit = Future(estimator(1, 2).setEpochs(100000).fit(data))
      while (spark.sparkContext.statusTracker.getActiveJobIds().length < 2) Thread.sleep(50)
      Thread.sleep(3000)
      spark.sparkContext.cancelAllJobs()
      assertThrows[Exception](Await.result(fit, 10.seconds))
      assert(Samples.estimator(3).setEpochs(1).fit(data).history("loss").length == 1)
    }
  }
}
