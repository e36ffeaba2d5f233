// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions._
import org.scalatest.time.SpanSugar._

import io.flambeau._
import io.flambeau.ml.KerasEstimator

/** Scalar columns, which cross to native code as one, train and predict as they do one by one. */
class StackedColumnsSuite extends SparkSuite {
  private val deadline = 120.seconds

  private lazy val data = Samples.points(spark, 200, 2)
    .withColumn("x", col("point")(0))
    .withColumn("y", col("point")(1))
    .withColumn("between", lit("a string"))

  private def estimator(columns: String*): KerasEstimator =
    Samples.estimator(2).setSeed(5).setFeatureCols(columns.toArray)

  private def outputs(estimator: KerasEstimator, data: DataFrame): Seq[Any] = {
    val predicted = estimator.fit(data).transform(data).orderBy("id")
    predicted.select("output").collect().map(_.getSeq[Float](0)).toSeq
  }

  test("columns give the bits that an array of them gives") {
    failAfter(deadline) {
      val expected = outputs(Samples.estimator(2).setSeed(5), data)
      assert(outputs(estimator("x", "y"), data) == expected)
      // One of another type cannot be stacked.
      assert(outputs(estimator("x", "y"), data.withColumn("y", col("y").cast("double"))) == expected)
      assert(outputs(estimator("y", "x"), data) != expected)
    }
  }

  test("a null is that of its column, whatever the policy") {
    failAfter(deadline) {
      val holed = data.withColumn("y", when(col("id") =!= 150, col("y")))
      val message = intercept[DataException](estimator("x", "y").fit(holed)).getMessage
      assert(message.contains("'y'") && message.contains("row 50"))
      val model = estimator("x", "y").fit(data)
      val error = intercept[Exception](model.transform(holed).collect())
      assert(Iterator.iterate[Throwable](error)(_.getCause).takeWhile(_ != null).exists(_.getMessage.contains("'y'")))
      assert(model.setNullPolicy("drop").transform(holed).count() == 199)
      val zeroed = model.setNullPolicy("zero").transform(holed).where("id = 150").select("output").head().getSeq[Float](0)
      val zero = data.where("id = 150").withColumn("y", lit(0f))
      // A row by itself may be multiplied in another order than among others, which the processor decides.
      val expected = model.transform(zero).select("output").head().getSeq[Float](0)
      assert(zeroed.zip(expected).forall { case (value, other) => math.abs(value - other) < 1e-6 })
    }
  }

  test("features and labels of one type lie side by side, and each is read for what it is") {
    failAfter(deadline) {
      val integers = data.withColumn("x", col("id") % 5).withColumn("y", col("id") % 7)
      val floats = integers.withColumn("x", col("x").cast("float")).withColumn("y", col("y").cast("float"))
      assert(outputs(estimator("x", "y"), integers) == outputs(estimator("x", "y"), floats))
      val wrong = integers.withColumn("label", when(col("id") === 150, 9L).otherwise(col("label")))
      assert(intercept[DataException](estimator("x", "y").fit(wrong)).getMessage.contains("'label'"))
    }
  }

  test("what feeding costs is counted over all columns") {
    val frame = data.select("x", "y", "id")
    assert(FeedJob.run(frame, Array("x", "y", "id")) == 200 * 3 * 4)
    assert(FeedJob.run(frame, Array("id", "x")) == 200 * 2 * 4)
  }
}
