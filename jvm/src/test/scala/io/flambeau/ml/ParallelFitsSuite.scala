// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.nio.file.Files

import scala.concurrent.{Await, Future}
import scala.concurrent.ExecutionContext.Implicits.global

import org.apache.spark.ml.Pipeline
import org.apache.spark.ml.evaluation.{BinaryClassificationEvaluator, MulticlassClassificationEvaluator}
import org.apache.spark.ml.feature.SQLTransformer
import org.apache.spark.ml.param.ParamMap
import org.apache.spark.ml.tuning.{CrossValidator, CrossValidatorModel, ParamGridBuilder, TrainValidationSplit}
import org.apache.spark.sql.DataFrame
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, NumericException, Samples, SparkSuite}

/** Fits of two workers each, four at once, on a cluster of so many slots: each ends as it does alone. */
abstract class ParallelFits(executors: Int, cores: Int) extends SparkSuite(s"local-cluster[$executors,$cores,1024]") {

  protected lazy val data: DataFrame = Samples.points(spark, 600, 4).cache()

  protected def histories(fit: ParamMap => KerasModel, maps: Seq[ParamMap]): Seq[Map[String, Seq[Double]]] =
    maps.map(fit(_).history.map { case (metric, values) => metric -> values.toSeq })

  test("fits of a grid end as each does alone") {
    failAfter(240.seconds) {
      val estimator = Samples.estimator(2)
      val grid = new ParamGridBuilder()
        .addGrid(estimator.learningRate, Array(0.001, 0.1))
        .addGrid(estimator.batchSize, Array(8, 16))
        .build()
        .toSeq
      val alone = histories(estimator.fit(data, _), grid)
      assert(alone.distinct.size == grid.size)
      val together = grid.map(map => Future(estimator.fit(data, map)))
      assert(histories(map => Await.result(together(grid.indexOf(map)), 120.seconds), grid) == alone)
    }
  }
}

class FourSlotsSuite extends ParallelFits(2, 2) {

  private def accuracy = new MulticlassClassificationEvaluator().setMetricName("accuracy")

  private val estimator = Samples.estimator(2)

  /** Built once, as the order of its points is that of hashes of params. */
  private val grid = new ParamGridBuilder()
    .addGrid(estimator.learningRate, Array(0.0, 0.05))
    .addGrid(estimator.model, Array(Samples.Classifier, Samples.classifier(4)))
    .build()

  private def validated(parallelism: Int): CrossValidatorModel =
    new CrossValidator()
      .setEstimator(estimator)
      .setEvaluator(accuracy)
      .setEstimatorParamMaps(grid)
      .setNumFolds(2)
      .setSeed(3)
      .setParallelism(parallelism)
      .fit(data)

  test("cross validation finds the same whether fits run at once or one after the other") {
    failAfter(300.seconds) {
      val (together, alone) = (validated(4), validated(1))
      assert(together.avgMetrics.toSeq == alone.avgMetrics.toSeq)
      assert(together.avgMetrics.toSeq.distinct.size > 1)
      assert(accuracy.evaluate(together.transform(data)) > 0.9)
      val folder = temporaryDirectory().resolve("validated").toString
      together.save(folder)
      val loaded = CrossValidatorModel.load(folder)
      assert(accuracy.evaluate(loaded.transform(data)) == accuracy.evaluate(together.transform(data)))
    }
  }

  test("a pipeline in a split by training and validation, measured by its scores") {
    failAfter(180.seconds) {
      val estimator = Samples.estimator(2).setModel(Samples.Binary).setLoss("binary_crossentropy")
      val score = new SQLTransformer().setStatement("SELECT *, double(output[0]) AS score FROM __THIS__")
      val grid = new ParamGridBuilder().addGrid(estimator.optimizer, Array("sgd", "adam", "rmsprop")).build()
      val found = new TrainValidationSplit()
        .setEstimator(new Pipeline().setStages(Array(estimator, score)))
        .setEvaluator(new BinaryClassificationEvaluator().setRawPredictionCol("score"))
        .setEstimatorParamMaps(grid)
        .setSeed(5)
        .setParallelism(3)
        .fit(data)
      assert(found.validationMetrics.length == 3 && found.validationMetrics.max > 0.9)
    }
  }

  test("a fit that fails and one that is cancelled leave the others alone") {
    failAfter(240.seconds) {
      val estimator = Samples.estimator(1).setEpochs(30)
      val alone = estimator.fit(data).history("loss").toSeq
      val bad = Future(estimator.fit(data, ParamMap(estimator.learningRate -> 1e38, estimator.optimizer -> "sgd")))
      val cancelled = Future {
        spark.sparkContext.setJobGroup("to be cancelled", "a fit without end", interruptOnCancel = true)
        try estimator.fit(data, ParamMap(estimator.epochs -> 1000000))
        finally spark.sparkContext.clearJobGroup()
      }
      val good = Seq.fill(2)(Future(estimator.fit(data)))
      assertThrows[NumericException](Await.result(bad, 120.seconds))
      Thread.sleep(1000)
      spark.sparkContext.cancelJobGroup("to be cancelled")
      assertThrows[Exception](Await.result(cancelled, 30.seconds))
      good.foreach(fit => assert(Await.result(fit, 120.seconds).history("loss").toSeq == alone))
    }
  }

  test("a model directory is of one fit at a time") {
    failAfter(120.seconds) {
      val folder = temporaryDirectory()
      val estimator = Samples.estimator(1).setModelDir(folder.toUri.toString)
      val first = Future(estimator.fit(data, ParamMap(estimator.epochs -> 200)))
      while (!Files.exists(folder.resolve("checkpoint")) && !first.isCompleted) Thread.sleep(20)
      val error = intercept[ConfigException](estimator.copy(ParamMap.empty).setModelDir(folder.toString).fit(data))
      assert(error.getMessage.contains("another fit of this application trains into it at this time"))
      assert(Await.result(first, 60.seconds).history("loss").length == 200)
      assert(estimator.fit(data).history("loss").length == 3)
    }
  }
}

class ThreeSlotsSuite extends ParallelFits(3, 1)

class TwoSlotsSuite extends ParallelFits(1, 2) {

  test("asynchronous fits whose servers would take all slots wait for each other") {
    failAfter(100.seconds) {
      val estimator = Samples.estimator(2).setStrategy("async").setNumPs(1)
      val fits = Seq.fill(3)(Future(estimator.fit(data)))
      fits.foreach(fit => assert(Await.result(fit, 90.seconds).history("loss").length == 3))
    }
  }
}
