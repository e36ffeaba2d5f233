// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.Files

import scala.reflect.ClassTag

import org.apache.spark.ml.param.ParamMap
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions._
import org.scalatest.time.SpanSugar._

import io.flambeau._
import io.flambeau.jni.Session
import io.flambeau.ml.{KerasEstimator, KerasModel}

class FitSuite extends SparkSuite {
  private val deadline = 120.seconds

  test("two ranks learn, and every input column comes back with its prediction") {
    failAfter(deadline) {
      val data = Samples.points(spark, 2000, 3)
      val model = Samples.estimator(2).setEpochs(10).fit(data)
      assert(model.history.keySet == Set("loss", "accuracy"))
      assert(model.history("loss").length == 10 && model.history("accuracy").last > 0.85)
      val predicted = model.transform(data)
      assert(predicted.columns.toSeq == Seq("id", "point", "label", "prediction", "output"))
      def inputs(frame: DataFrame) = frame.orderBy("id").select("id", "point", "label").collect().toSeq
      assert(inputs(predicted) == inputs(data))
      assert(predicted.where(col("label") === col("prediction")).count() > 1700)
      assert(predicted.select(size(col("output"))).distinct().collect().map(_.getInt(0)).toSeq == Seq(2))
    }
  }

  test("the same seed gives the same bits, with partitions that are uneven or empty") {
    failAfter(deadline) {
      val data = Samples.points(spark, 150, 1).union(Samples.points(spark, 0, 1))
      def train() = Samples.estimator(2).setSeed(7).fit(data)
      val (first, second) = (train(), train())
      assert(first.history("loss").toSeq == second.history("loss").toSeq)
    }
  }

  test("workers that meet every few steps learn, the same bits each time, others than those that always meet") {
    failAfter(deadline) {
      def losses(localSteps: Int) =
        Samples.estimator(2).setEpochs(4).setLocalSteps(localSteps).fit(Samples.points(spark, 600, 2)).history("loss").toSeq
      val seldom = losses(5)
      assert(seldom.length == 4 && seldom.last < seldom.head)
      assert(losses(5) == seldom)
      assert(losses(1) != seldom)
    }
  }

  test("workers that each keep the optimizer's state of a part of the weights come to the same ones") {
    failAfter(deadline) {
      def estimator(shards: Boolean) = Samples.estimator(2).setOptimizer("adam").setShardOptimizerState(shards)
      def losses(shards: Boolean) = estimator(shards).fit(Samples.points(spark, 600, 2)).history("loss").toSeq
      assert(losses(true) == losses(false))
      val refused = intercept[Exception](estimator(true).setLocalSteps(2).fit(Samples.points(spark, 60, 2)))
      assert(refused.getMessage.contains("shardOptimizerState and localSteps above 1 exclude each other"), refused.getMessage)
    }
  }

  test("held-out rows validate each epoch") {
    failAfter(deadline) {
      val data = Samples.points(spark, 300, 2).withColumn("held", col("id") % 3 === 0)
      val model = Samples.estimator(2).setValidationIndicatorCol("held").fit(data)
      assert(model.history("val_loss").length == 3)
    }
  }

  test("rows beyond the cache's memory train to the bits of rows within it") {
    failAfter(deadline) {
      val data = Samples.points(spark, 240000, 2).withColumn("held", col("id") % 5 === 0)
      val estimator = Samples.estimator(2).setBatchSize(2048).setValidationIndicatorCol("held")
      def train(memory: String) = {
        spark.conf.set("spark.flambeau.cache.memory", memory)
        try {
          val model = estimator.fit(data)
          (model.history.map { case (name, values) => name -> values.toSeq }, weights(model))
        } finally spark.conf.unset("spark.flambeau.cache.memory")
      }
      val within = train("1g")
      assert(within._1("val_loss").length == 3)
      assert(train("1m") == within)
      val message = intercept[ConfigException](train("much")).getMessage
      assert(message.startsWith("spark.flambeau.cache.memory is 'much': "))
    }
  }

  /** What a model predicts for some points: its weights through their outputs. */
  private def weights(model: KerasModel): Seq[Seq[Float]] =
    model.transform(Samples.points(spark, 100, 1)).select("output").collect().map(_.getSeq[Float](0)).toSeq

  test("the model directory holds pointer, checkpoint, events, model and history, and nothing else") {
    failAfter(deadline) {
      val folder = temporaryDirectory()
      Samples.estimator(1).setModelDir(folder.toUri.toString).fit(Samples.points(spark, 100, 1))
      val names = folder.toFile.list().toSet
      val (checkpoints, others) = names.partition(_.endsWith(".safetensors"))
      assert(checkpoints.nonEmpty)
      assert(others == Set("checkpoint", "model.json", "history.json", "export", "train"))
      val events = folder.resolve("train").toFile.list().toSeq
      assert(events.length == 1 && events.head.startsWith("events.out.tfevents."))
      assert(Files.size(folder.resolve("export/model.keras")) > 0)
    }
  }

  test("a fit goes on from one that was interrupted with the same settings, to the weights of the undisturbed one") {
    failAfter(deadline) {
      val folder = temporaryDirectory()
      val data = Samples.points(spark, 400, 2)
      def estimator(epochs: Int) = Samples.estimator(2).setEpochs(epochs).setModelDir(folder.toUri.toString)
      def interrupt(): Unit = {
        val pointer = folder.resolve("checkpoint")
        Files.writeString(pointer, Files.readString(pointer).replace(", which has ended", ""))
      }
      val undisturbed = weights(Samples.estimator(2).setEpochs(4).fit(data))
      estimator(2).fit(data)
      interrupt()
      val message = failure[ConfigException](estimator(4).setBatchSize(7).setSeed(8).fit(data))
      assert(message.contains("batchSize was ") && message.contains(" and is 7; seed was ") && message.contains("resume=false"))
      val again = estimator(4).fit(data)
      assert(again.history("loss").length == 4 && weights(again) == undisturbed)
      // It has ended: the next one starts anew, as does one that is told to.
      assert(estimator(1).setBatchSize(7).fit(data).history("loss").length == 1)
      interrupt()
      assert(estimator(1).setResume(false).fit(data).history("loss").length == 1)
    }
  }

  private def failure[E <: FlambeauException: ClassTag](fit: => Any): String =
    failAfter(deadline)(intercept[E](fit).getMessage)

  test("no rows at all are a data error, and nothing is written") {
    val folder = temporaryDirectory()
    failure[DataException](Samples.estimator(2).setModelDir(folder.toString).fit(Samples.points(spark, 0, 2)))
    assert(folder.toFile.list().isEmpty)
  }

  test("a label out of range names column and rank, and is thrown once") {
    val data = Samples.points(spark, 200, 2).withColumn("label", when(col("id") === 150, 9L).otherwise(col("label")))
    val message = failure[DataException](Samples.estimator(2).fit(data))
    assert(message.startsWith("rank 1: ") && message.contains("label"))
  }

  test("a null in a feature names its column") {
    val data = Samples.points(spark, 200, 2).withColumn("point", when(col("id") =!= 150, col("point")))
    assert(failure[DataException](Samples.estimator(2).fit(data)).contains("point"))
    assert(Samples.estimator(2).setNullPolicy("drop").fit(data).history("loss").length == 3)
  }

  test("what no row has to be seen for is refused on the driver, in one line and before any job") {
    val data = Samples.points(spark, 100, 2)
    def refused[E <: FlambeauException: ClassTag](estimator: KerasEstimator, reason: String): Unit = {
      assert(jobsOf {
        val message = failure[E](estimator.fit(data))
        assert(message.contains(reason) && !message.contains("\n"))
      } == 0)
      ()
    }
    val layer = Samples.Classifier.replace("\"Dense\"", "\"Danse\"")
    refused[ConfigException](Samples.estimator(2).setModel(layer), "Danse")
    refused[ConfigException](Samples.estimator(2).setModel("{}"), "class_name")
    refused[ConfigException](Samples.estimator(2).setOptimizer("adamm"), "adamm")
    refused[DataException](Samples.estimator(2).setFeaturesCol("id"), "the feature columns [id] hold 1 values a row")
    refused[DataException](Samples.estimator(2).setLoss("categorical_crossentropy"), "label column 'label' holds 1")
  }

  test("a model that cannot predict is refused by transform itself, and what it accepts once is not asked again") {
    failAfter(deadline) {
      val data = Samples.points(spark, 100, 2)
      assert(jobsOf {
        val message = failure[ConfigException](KerasModel.fromKeras(Samples.Classifier.getBytes("UTF-8"))
          .setFeaturesCol("point").transform(data))
        assert(message == "the model has no weights to predict with: give a .keras file")
      } == 0)
      val model = Samples.estimator(1).setEpochs(1).fit(data)
      assert(jobsOf(model.transform(data)) == 0)
      assert(model.transform(data).count() == 100)
      assert(failure[DataException](model.copy(ParamMap.empty).setFeaturesCol("id").transform(data)).contains("[id]"))
    }
  }

  test("no session stays open") {
    assert(Session.live == 0)
  }
}
