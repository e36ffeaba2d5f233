// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.Files

import scala.concurrent.{Await, Future}
import scala.concurrent.ExecutionContext.Implicits.global

import org.apache.spark.ml.param.ParamMap
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, Samples, SparkSuite}

class ClusterFitSuite extends SparkSuite("local-cluster[2,1,1024]") {

  test("executors of their own learn together, to the bits of a second run") {
    failAfter(180.seconds) {
      val data = Samples.points(spark, 1000, 4)
      def losses() = Samples.estimator(2).fit(data).history("loss").toSeq
      val first = losses()
      assert(first.length == 3 && first.last < first.head)
      assert(losses() == first)
    }
  }

  test("more workers than slots are refused within two seconds, with executors and cores") {
    val error = failAfter(2.seconds)(intercept[ConfigException](SlotCheck.demand(spark.sparkContext, 3)))
    assert(error.getMessage.contains("there are 2 (2 executors x 1 cores"))
  }

  test("a fit whose executor is killed goes on from its checkpoint, to the bits of one that was not") {
    failAfter(300.seconds) {
      val data = Samples.points(spark, 1000, 2)
      val estimator = Samples.estimator(2).setEpochs(60)
      val folder = temporaryDirectory()
      val fit = Future(estimator.copy(ParamMap.empty).setModelDir(folder.toUri.toString).fit(data))
      while (!Files.exists(folder.resolve("checkpoint")) && !fit.isCompleted) Thread.sleep(20)
      killOneExecutor()
      val survived = Await.result(fit, 200.seconds).history("loss").toSeq
      assert(survived.length == 60)
      assert(survived == estimator.fit(data).history("loss").toSeq)
    }
  }

  test("workers that read files by themselves go on in the middle of an epoch when an executor is killed") {
    failAfter(300.seconds) {
      val files = temporaryDirectory().resolve("points").toString
      Samples.points(spark, 40000, 6).write.format("tfrecord").save(files)
      val data = spark.read.format("tfrecord").load(files)
      val estimator = Samples.estimator(2).setInputMode("direct").setEpochs(3).setShuffleBuffer(500)
      val folder = temporaryDirectory()
      val checked = estimator.copy(ParamMap.empty).setCheckpointEverySteps(100).setModelDir(folder.toUri.toString)
      val fit = Future(checked.fit(data))
      while (!Files.exists(folder.resolve("checkpoint")) && !fit.isCompleted) Thread.sleep(20)
      killOneExecutor()
      val survived = Await.result(fit, 200.seconds).history("loss").toSeq
      assert(survived == estimator.fit(data).history("loss").toSeq)
    }
  }

  test("a cancelled job frees its executors within seconds") {
    failAfter(120.seconds) {
      val data = Samples.points(spark, 2000, 2)
      val fit = Future(Samples.estimator(2).setEpochs(100000).fit(data))
      while (spark.sparkContext.statusTracker.getActiveJobIds().isEmpty) Thread.sleep(50)
      Thread.sleep(3000)
      spark.sparkContext.cancelAllJobs()
      assertThrows[Exception](Await.result(fit, 10.seconds))
      val again = failAfter(30.seconds)(Samples.estimator(2).setEpochs(1).fit(data))
      assert(again.history("loss").length == 1)
    }
  }
}
