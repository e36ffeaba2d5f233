// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import org.apache.spark.sql.functions.{col, concat, lit, when}
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, DataException, Samples, SparkSuite}

/** A model for each value of a column, each trained in one task. */
class FitEachSuite extends SparkSuite("local-cluster[2,1,1024]") {
  private lazy val data = Samples.points(spark, 1000, 4).withColumn("shop", concat(lit("shop "), col("id") % 7)).cache()

  test("each value has the model that a fit of its rows gives") {
    failAfter(180.seconds) {
      val estimator = Samples.estimator(1).setEpochs(2).setShuffle(false)
      val models = estimator.fitEach(data, "shop")
      assert(models.keySet == (0 until 7).map(n => s"shop $n").toSet)
      for (shop <- Seq("shop 0", "shop 6")) {
        val own = data.where(col("shop") === shop).coalesce(1).sortWithinPartitions("id")
        val alone = estimator.fit(own)
        assert(models(shop).history("loss").toSeq == alone.history("loss").toSeq)
        val predicted = models(shop).transform(own).orderBy("id").select("output").collect().toSeq
        assert(predicted == alone.transform(own).orderBy("id").select("output").collect().toSeq)
      }
    }
  }

  test("values are numbers or booleans, too, and rows may be held out") {
    failAfter(120.seconds) {
      val estimator = Samples.estimator(1).setEpochs(1).setValidationSplit(0.3)
      assert(estimator.fitEach(data.withColumn("n", (col("id") % 3).cast("short")), "n").keySet == Set[Any](0, 1, 2).map(_.asInstanceOf[Int].toShort))
      val halves = estimator.fitEach(data.withColumn("even", col("id") % 2 === 0), "even")
      assert(halves.keySet == Set[Any](true, false) && halves.values.forall(_.history.contains("val_loss")))
    }
  }

  test("a failure names its value") {
    failAfter(120.seconds) {
      val estimator = Samples.estimator(1)
      val wrong = data.withColumn("label", when(col("shop") === "shop 3", 77).otherwise(col("label")))
      val error = intercept[DataException](estimator.fitEach(wrong, "shop"))
      assert(error.getMessage.startsWith("shop shop 3: label 77 of column 'label'"), error.getMessage)
      val unnamed = data.withColumn("shop", when(col("id") =!= 5, col("shop")))
      assert(intercept[DataException](estimator.fitEach(unnamed, "shop")).getMessage.contains("column 'shop' holds a null"))
    }
  }

  test("what cannot be is refused before any job") {
    def refused(estimator: KerasEstimator, by: String = "shop"): String =
      intercept[ConfigException](estimator.fitEach(data, by)).getMessage
    data.count()
    val jobs = jobsOf {
      assert(refused(Samples.estimator(2)).startsWith("numWorkers is above 1, but fitEach"))
      assert(refused(Samples.estimator(1).setModelDir("/nowhere")).startsWith("modelDir is set"))
      assert(refused(Samples.estimator(1), "point").contains("column 'point' has type ARRAY<FLOAT>"))
      assert(refused(Samples.estimator(1), "store").contains("'store' is no column"))
    }
    assert(jobs == 0)
  }
}
