// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.scalatest.time.SpanSugar._

import io.flambeau.{DataException, Samples, SparkSuite}

/** Kryo that refuses every class it was not told of: nothing of ours may cross Spark's exchanges as an object. */
class SerializerSuite extends SparkSuite("local-cluster[2,1,1024]") {

  override protected def settings: Map[String, String] = Map(
    "spark.serializer" -> "org.apache.spark.serializer.KryoSerializer",
    "spark.kryo.registrationRequired" -> "true")

  test("a fit and its predictions need no class registered with Kryo") {
    failAfter(120.seconds) {
      val data = Samples.points(spark, 400, 3)
      Seq("spark", "direct").foreach { mode =>
        val input = if (mode == "spark") data else Samples.points(spark, 400, 2)
        val model = Samples.estimator(2).setInputMode(mode).fit(input)
        assert(model.history("loss").length == 3)
        assert(model.transform(input).select("prediction").collect().length == 400)
      }
    }
  }

  test("nor do an evaluator and a model for each value") {
    failAfter(120.seconds) {
      val data = Samples.points(spark, 400, 2).selectExpr("*", "id % 2 AS half")
      val beside = Samples.estimator(1).setEvaluator(true).setValidationSplit(0.2)
      val validated = beside.setModelDir(temporaryDirectory().toUri.toString).fit(data)
      assert(validated.history("val_loss").length == 3)
      assert(Samples.estimator(1).fitEach(data, "half").keySet == Set[Any](0L, 1L))
    }
  }

  test("a failure crosses as well") {
    failAfter(60.seconds) {
      val wrong = Samples.points(spark, 100, 2).selectExpr("*", "label + 9 AS other").drop("label").withColumnRenamed("other", "label")
      val error = intercept[DataException](Samples.estimator(2).fit(wrong))
      assert(error.getMessage.contains("is out of range"), error.getMessage)
    }
  }
}
