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

  test("a failure crosses as well") {
    failAfter(60.seconds) {
      val wrong = Samples.points(spark, 100, 2).selectExpr("*", "label + 9 AS other").drop("label").withColumnRenamed("other", "label")
      val error = intercept[DataException](Samples.estimator(2).fit(wrong))
      assert(error.getMessage.contains("is out of range"), error.getMessage)
    }
  }
}
