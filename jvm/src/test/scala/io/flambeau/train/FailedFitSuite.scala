// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.Files
import java.util.concurrent.atomic.AtomicInteger

import scala.concurrent.{Await, Future}
import scala.concurrent.ExecutionContext.Implicits.global

import org.apache.spark.scheduler.{SparkListener, SparkListenerStageSubmitted}
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions.{col, spark_partition_id, udf, when}
import org.scalatest.time.SpanSugar._

import io.flambeau.{CollectiveException, DataException, FlambeauException, Samples, SparkSuite}

/** What the driver's exception says when a rank, its rows or its executor fail. */
class FailedFitSuite extends SparkSuite("local-cluster[2,1,1024]") {

  override protected def settings: Map[String, String] =
    Map("spark.stage.maxConsecutiveAttempts" -> "1", "spark.executor.heartbeatInterval" -> "1s")

  private def data: DataFrame = Samples.points(spark, 2000, 2)

  /** Rows of which those of one rank go through `change`. */
  private def withRank(rank: Int)(change: Float => Float): DataFrame =
    data.withColumn("label", when(spark_partition_id() === rank, udf(change).apply(col("label").cast("float"))).otherwise(col("label")))

  test("a lost executor is named by its rank, with what Spark knows of its end") {
    failAfter(120.seconds) {
      val folder = temporaryDirectory()
      val estimator = Samples.estimator(2).setEpochs(100000).setModelDir(folder.toUri.toString)
      val fit = Future(estimator.fit(data))
      while (!Files.exists(folder.resolve("checkpoint")) && !fit.isCompleted) Thread.sleep(20)
      killOneExecutor()
      val error = intercept[CollectiveException](Await.result(fit, 60.seconds))
      assert(error.getMessage.matches("(?s).*lost rank [01] \\(.*Spark says: .*ExecutorLostFailure.*"), error.getMessage)
      assert(error.getMessage.contains("137"), error.getMessage)
      assert(error.getCause != null)
    }
  }

  test("what fails while rows are made is the cause, not what the other ranks saw of it") {
    failAfter(60.seconds) {
      val broken = withRank(1)(_ => throw new IllegalArgumentException("no such city"))
      val error = intercept[FlambeauException](Samples.estimator(2).fit(broken))
      assert(error.getMessage.startsWith("rank 1 ("), error.getMessage)
      assert(error.getMessage.contains("no such city"), error.getMessage)
      assert(error.getCause != null)
    }
  }

  test("a rank whose rows take for ever ends with the failure of another one") {
    failAfter(60.seconds) {
      val slow = withRank(0) { label => Thread.sleep(600000); label }
      val wrong = slow.withColumn("label", when(spark_partition_id() === 1, 77).otherwise(col("label")))
      val error = intercept[DataException](Samples.estimator(2).fit(wrong))
      assert(error.getMessage.startsWith("rank 1: label 77"), error.getMessage)
    }
  }

  test("a job is cancelled within seconds while a rank waits for its rows") {
    failAfter(60.seconds) {
      val sc = spark.sparkContext
      val slow = withRank(0) { label => Thread.sleep(600000); label }
      val fit = Future { sc.setJobGroup("slow", "waits for rows"); Samples.estimator(2).fit(slow) }
      while (sc.statusTracker.getActiveJobIds().isEmpty) Thread.sleep(50)
      Thread.sleep(5000)
      sc.cancelAllJobs()
      assertThrows[Exception](Await.result(fit, 10.seconds))
      val again = failAfter(20.seconds)(Samples.estimator(2).setEpochs(1).fit(data))
      assert(again.history("loss").length == 1)
    }
  }
}

/** Executors that have no libtorch, though the driver has. */
class UnloadableSuite extends SparkSuite("local-cluster[2,1,1024]") {

  override protected def settings: Map[String, String] = Map("spark.flambeau.libtorch" -> "/nowhere")

  test("a library that cannot be loaded is no reason to start again") {
    failAfter(90.seconds) {
      val attempts = new AtomicInteger
      spark.sparkContext.addSparkListener(new SparkListener {
        override def onStageSubmitted(stage: SparkListenerStageSubmitted): Unit =
          if (stage.stageInfo.attemptNumber() > 0) attempts.incrementAndGet()
      })
      val error = intercept[FlambeauException](Samples.estimator(2).fit(Samples.points(spark, 100, 2)))
      assert(error.getMessage.contains("/nowhere"), error.getMessage)
      Thread.sleep(1000)
      assert(attempts.get <= 1, "a stage may have been submitted again before its job was cancelled, but not twice")
    }
  }
}
