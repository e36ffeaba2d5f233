// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.Files

import scala.concurrent.{Await, Future}
import scala.concurrent.ExecutionContext.Implicits.global

import org.apache.spark.ml.param.ParamMap
import org.apache.spark.sql.functions.col
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, Samples, SparkSuite}
import io.flambeau.ml.{KerasEstimator, KerasModel}

/** Models that are cut into stages, each in executors of its own. */
class MeshFitSuite extends SparkSuite("local-cluster[4,1,1024]") {

  private def staged(replicas: Int): KerasEstimator = Samples.estimator(2 * replicas).setPipelineStages(2).setMicroBatches(3)

  private def assertAlike(model: KerasModel, other: KerasModel): Unit = {
    assert(model.history.keySet == other.history.keySet)
    for ((name, values) <- model.history; (value, expected) <- values.zip(other.history(name))) {
      assert(math.abs(value - expected) < 1e-4, s"$name: $value, expected $expected")
    }
  }

  test("stages come to what whole models come to, with rows of one partition and of several") {
    failAfter(240.seconds) {
      val data = Samples.points(spark, 700, 3).withColumn("held", col("id") % 5 === 0)
      for ((replicas, schedule) <- Seq((1, "gpipe"), (2, "1f1b"))) {
        val whole = Samples.estimator(replicas).setValidationIndicatorCol("held").fit(data)
        val model = staged(replicas).setPipelineSchedule(schedule).setValidationIndicatorCol("held").fit(data)
        assertAlike(model, whole)
        val predicted = model.transform(data).where(col("label") === col("prediction")).count()
        assert(math.abs(predicted - whole.transform(data).where(col("label") === col("prediction")).count()) <= 1)
      }
    }
  }

  test("the first worker of each replica reads the files by itself") {
    failAfter(180.seconds) {
      val files = temporaryDirectory().resolve("points").toString
      Samples.points(spark, 900, 5).write.format("tfrecord").save(files)
      val data = spark.read.format("tfrecord").load(files)
      val held = Samples.points(spark, 120, 2)
      val whole = Samples.estimator(2).setInputMode("direct").fit(data, held)
      assertAlike(staged(2).setInputMode("direct").setLayerStages(Map("classes" -> 1)).fit(data, held), whole)
    }
  }

  test("a fit one of whose stages is killed goes on from its last checkpoint") {
    failAfter(300.seconds) {
      val data = Samples.points(spark, 3000, 2)
      val asked = staged(2).setEpochs(30).setCheckpointEverySteps(40)
      val undisturbed = asked.fit(data)
      val folder = temporaryDirectory()
      val fit = Future(asked.copy(ParamMap.empty).setModelDir(folder.toUri.toString).fit(data))
      while (!Files.exists(folder.resolve("checkpoint")) && !fit.isCompleted) Thread.sleep(20)
      killOneExecutor()
      val model = Await.result(fit, 200.seconds)
      assert(model.history("loss").toSeq == undisturbed.history("loss").toSeq)
    }
  }

  test("what cannot be is refused before any job") {
    failAfter(60.seconds) {
      val data = Samples.points(spark, 100, 2)
      def refused(estimator: KerasEstimator): String = intercept[ConfigException](estimator.fit(data)).getMessage
      val jobs = jobsOf {
        assert(refused(Samples.estimator(3).setPipelineStages(2)).contains("numWorkers is 3, but a replica of the model takes 2"))
        assert(refused(Samples.estimator(2).setMicroBatches(2)).contains("microBatches is set, but pipelineStages is 1"))
        assert(refused(staged(1).setLayerStages(Map("lost" -> 1))).contains("no layer \"lost\""))
        assert(refused(staged(1).setShardOptimizerState(true)).contains("shardOptimizerState exclude each other"))
        assert(refused(staged(4)).contains("8"))
      }
      assert(jobs == 0)
      val stream = intercept[ConfigException](staged(1).setModelDir("/nowhere").fitBatch(data, 0))
      assert(stream.getMessage.contains("pipelineStages"))
    }
  }
}
