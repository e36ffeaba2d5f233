// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}
import java.util.concurrent.ConcurrentHashMap

import scala.concurrent.{Await, Future}
import scala.concurrent.ExecutionContext.Implicits.global

import org.apache.spark.scheduler.{SparkListener, SparkListenerStageSubmitted, SparkListenerTaskStart}
import org.apache.spark.sql.functions.col
import org.json4s.jackson.JsonMethods.parse
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, NumericException, Samples, SparkSuite}
import io.flambeau.ml.{KerasEstimator, KerasModel}

/** A task of its own that validates while others train. */
class EvaluatorSuite extends SparkSuite("local-cluster[3,1,1024]") {
  private lazy val data = Samples.points(spark, 1000, 2).withColumn("held", col("id") % 5 === 0).cache()

  private def estimator(workers: Int, folder: Path): KerasEstimator =
    Samples.estimator(workers).setValidationIndicatorCol("held").setModelDir(folder.toUri.toString).setEpochs(4)

  private def history(model: KerasModel): Map[String, Seq[Double]] =
    model.history.map { case (metric, values) => metric -> values.toSeq }

  test("an evaluator tells what validation within the fit tells") {
    failAfter(240.seconds) {
      for (workers <- Seq(1, 2)) {
        val folder = temporaryDirectory()
        val within = history(estimator(workers, temporaryDirectory()).fit(data))
        val beside = history(estimator(workers, folder).setEvaluator(true).fit(data))
        assert(beside.keySet == within.keySet)
        for ((metric, values) <- within) {
          // The sums of one worker are made in the same order.
          if (workers == 1 || !metric.startsWith("val_")) assert(beside(metric) == values, metric)
          else beside(metric).zip(values).foreach { case (found, expected) => assert(math.abs(found - expected) < 1e-12) }
        }
        assert(History.of(parse(Files.readString(folder.resolve("history.json")))).keySet == within.keySet)
        assert(Files.list(folder.resolve("validation")).count() == 1)
      }
    }
  }

  test("rows of another frame, and workers that read files by themselves") {
    failAfter(240.seconds) {
      val (train, held) = (data.where("not held").drop("held"), data.where("held").drop("held"))
      def asked(folder: Path) = Samples.estimator(1).setModelDir(folder.toUri.toString)
      val within = history(asked(temporaryDirectory()).fit(train, held))
      assert(history(asked(temporaryDirectory()).setEvaluator(true).fit(train, held))("val_loss") == within("val_loss"))
      val files = temporaryDirectory().resolve("points").toString
      data.write.format("tfrecord").save(files)
      val table = spark.read.format("tfrecord").schema(data.schema).load(files).withColumn("held", col("id") % 5 === 0)
      def direct(folder: Path) = estimator(2, folder).setInputMode("direct")
      val read = history(direct(temporaryDirectory()).fit(table))("val_loss")
      val beside = history(direct(temporaryDirectory()).setEvaluator(true).fit(table))("val_loss")
      beside.zip(read).foreach { case (found, expected) => assert(math.abs(found - expected) < 1e-12) }
    }
  }

  test("an evaluator that is lost is started again, and training does not hear of it") {
    failAfter(240.seconds) {
      val folder = temporaryDirectory()
      val evaluators = ConcurrentHashMap.newKeySet[Int]()
      val places = new ConcurrentHashMap[Int, String]
      val listener = new SparkListener {
        override def onTaskStart(start: SparkListenerTaskStart): Unit =
          places.putIfAbsent(start.stageId, start.taskInfo.executorId)
        override def onStageSubmitted(stage: SparkListenerStageSubmitted): Unit =
          if (stage.stageInfo.rddInfos.exists(_.name == "flambeau evaluator")) evaluators.add(stage.stageInfo.stageId)
      }
      spark.sparkContext.addSparkListener(listener)
      val fit = Future(estimator(1, folder).setEpochs(30).setKeepCheckpoints(30).setEvaluator(true).fit(data))
      while (!Files.exists(folder.resolve("validation")) && !fit.isCompleted) Thread.sleep(20)
      killExecutor(places.get(evaluators.iterator.next()))
      val found = history(Await.result(fit, 200.seconds))
      spark.sparkContext.removeSparkListener(listener)
      assert(found("loss").length == 30 && found("val_loss").length == 30 && !found("val_loss").exists(_.isNaN))
    }
  }

  test("a fit that fails ends its evaluator") {
    failAfter(120.seconds) {
      val wrong = estimator(1, temporaryDirectory()).setOptimizer("sgd").setLearningRate(1e38).setEvaluator(true)
      assertThrows[NumericException](wrong.fit(data))
      failAfter(20.seconds)(while (spark.sparkContext.statusTracker.getActiveJobIds().nonEmpty) Thread.sleep(50))
    }
  }

  test("an evaluator without a place, rows or checkpoints is refused") {
    def refused(estimator: KerasEstimator): String =
      intercept[ConfigException](estimator.setEvaluator(true).fit(data)).getMessage
    assert(refused(Samples.estimator(1).setValidationIndicatorCol("held")).startsWith("modelDir is not set"))
    assert(refused(Samples.estimator(1).setModelDir("/nowhere")).contains("no rows to validate with"))
    assert(refused(estimator(1, temporaryDirectory()).setStrategy("async")).contains("strategy is async"))
    assert(refused(estimator(3, temporaryDirectory())).contains("numWorkers=3 with an evaluator needs 4 task slots"))
  }
}
