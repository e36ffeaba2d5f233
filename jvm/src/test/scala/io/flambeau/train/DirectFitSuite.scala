// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.TaskContext
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.catalyst.encoders.ExpressionEncoder
import org.apache.spark.sql.functions._
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, DataException, Samples, SparkSuite}
import io.flambeau.ml.{KerasEstimator, KerasModel}

/** Workers that read their rows by themselves. */
class DirectFitSuite extends SparkSuite {
  private val deadline = 120.seconds

  /** Leaves the weights as they are. */
  private val Frozen = """{"class_name": "SGD", "config": {"learning_rate": 0.0}}"""

  private def history(model: KerasModel): Map[String, Seq[Double]] =
    model.history.map { case (name, values) => name -> values.toSeq }

  private def estimator(workers: Int, mode: String): KerasEstimator =
    Samples.estimator(workers).setInputMode(mode)

  /** The points in files of a format, as a table. */
  private def saved(format: String, rows: Long, files: Int): DataFrame = {
    val folder = temporaryDirectory().resolve(format).toString
    val points = Samples.points(spark, rows, files)
    if (format == "csv") {
      points.select(col("label"), col("point")(0).as("x"), col("point")(1).as("y")).write.csv(folder)
      spark.read.schema("label long, x float, y float").csv(folder)
    } else {
      points.write.format(format).save(folder)
      spark.read.format(format).load(folder)
    }
  }

  test("files of every format train to the bits of rows that Spark feeds") {
    failAfter(deadline) {
      for (format <- Seq("parquet", "tfrecord", "csv", "orc")) {
        val table = saved(format, 500, 3)
        def train(mode: String) = {
          val each = estimator(1, mode).setShuffle(false)
          if (format == "csv") each.setFeatureCols(Array("x", "y"))
          history(each.fit(table))
        }
        assert(train("direct") == train("spark"), format)
      }
    }
  }

  test("each pass takes every row once, in an order of its own that the seed decides") {
    failAfter(deadline) {
      val table = saved("tfrecord", 3000, 7)
      for (workers <- Seq(1, 2)) {
        val each = estimator(workers, "direct").setShuffleBuffer(300).setEpochs(4)
        val first = history(each.fit(table))
        assert(history(each.fit(table)) == first)
        assert(history(each.setSeed(43).fit(table)) != first)
        assert(first("loss").last < first("loss").head)
      }
    }
  }

  test("more workers than files still train, and empty data is refused") {
    failAfter(deadline) {
      val alone = saved("parquet", 200, 1)
      assert(history(estimator(2, "direct").fit(alone))("loss").length == 3)
      val empty = alone.where(col("id") < 0)
      assert(intercept[DataException](estimator(2, "direct").fit(empty)).getMessage.contains("no rows"))
    }
  }

  test("rows of another frame validate each epoch, alike in both modes") {
    failAfter(deadline) {
      val table = saved("parquet", 300, 2)
      val held = Samples.points(spark, 97, 3).withColumn("more", lit(1))
      def train(workers: Int, mode: String) =
        history(estimator(workers, mode).setEpochs(2).setShuffle(false).fit(table, held))
      val direct = train(1, "direct")
      assert(direct.keySet == Set("loss", "accuracy", "val_loss", "val_accuracy"))
      for ((a, b) <- direct("val_loss").zip(train(1, "spark")("val_loss"))) assert(math.abs(a - b) < 1e-6)
      for (mode <- Seq("direct", "spark")) assert(train(2, mode)("val_loss").length == 2)
    }
  }

  test("all rows that validate do so in an epoch that ends before the first pass") {
    failAfter(deadline) {
      val table = saved("parquet", 400, 2)
      val held = Samples.points(spark, 97, 3)
      def losses(stepsPerEpoch: Int) = {
        val each = estimator(1, "direct").setShuffle(false).setEpochs(2).setStepsPerEpoch(stepsPerEpoch)
        history(each.setOptimizer(Frozen).fit(table, held))("val_loss")
      }
      assert(losses(2) == losses(1000000))
    }
  }

  test("a share of the rows or marked ones validate and do not train") {
    failAfter(deadline) {
      val table = saved("parquet", 400, 2).withColumn("held", col("id") % 4 === 0)
      def train(mode: String)(set: KerasEstimator => Any) = {
        val each = estimator(1, mode).setShuffle(false)
        set(each)
        history(each.fit(table))
      }
      for (set <- Seq[KerasEstimator => Any](_.setValidationIndicatorCol("held"), _.setValidationSplit(0.3))) {
        val (direct, fed) = (train("direct")(set), train("spark")(set))
        assert(direct("loss") == fed("loss"))
        for ((a, b) <- direct("val_loss").zip(fed("val_loss"))) assert(math.abs(a - b) < 1e-6)
      }
    }
  }

  test("epochs of so many steps go on where they stood") {
    failAfter(deadline) {
      val table = saved("parquet", 320, 2)
      // 20 steps a pass.
      val whole = history(estimator(1, "direct").setEpochs(2).fit(table))("loss")
      val steps = history(estimator(1, "direct").setStepsPerEpoch(10).setEpochs(4).fit(table))("loss")
      assert(math.abs((steps(0) + steps(1)) / 2 - whole(0)) < 1e-6)
      assert(math.abs((steps(2) + steps(3)) / 2 - whole(1)) < 1e-6)
      val until = history(estimator(1, "direct").setEpochs(3).copyWithoutEpochs.setMaxSteps(50).fit(table))("loss")
      assert(until.length == 3 && until.take(2) == whole)
    }
  }

  test("what a partition opened is closed before the next one") {
    failAfter(deadline) {
      val (opened, closed, most) = (spark.sparkContext.longAccumulator, spark.sparkContext.longAccumulator, spark.sparkContext.collectionAccumulator[Int])
      val data = Samples.points(spark, 200, 5).select("point", "label")
      val watched = data.mapPartitions { rows =>
        opened.add(1)
        most.add(DirectFitSuite.open.incrementAndGet())
        TaskContext.get().addTaskCompletionListener[Unit] { _ =>
          DirectFitSuite.open.decrementAndGet()
          closed.add(1)
        }
        rows
      }(ExpressionEncoder(data.schema))
      estimator(1, "direct").setEpochs(4).fit(watched)
      assert(opened.value >= 20 && closed.value == opened.value)
      assert(most.value.stream().allMatch(_ == 1))
    }
  }

  test("a row at fault is told with the file that it is in") {
    failAfter(deadline) {
      val folder = temporaryDirectory()
      def write(name: String, lines: String*): Unit = { java.nio.file.Files.write(folder.resolve(name), String.join("\n", lines: _*).getBytes); () }
      write("a.csv", Seq.fill(3000)("1,0.5,0.5"): _*)
      write("b.csv", "0,0.1,0.2", "0,oops,0.2", "1,0.1,0.2")
      val table = spark.read.schema("label long, x float, y float").csv(folder.toString)
      for (mode <- Seq("direct", "spark")) {
        val each = estimator(1, mode).setFeatureCols(Array("x", "y"))
        val message = intercept[DataException](each.fit(table.coalesce(1))).getMessage
        assert(message.contains("column 'x' is null in row"), message)
        // Rows that were exchanged are of no file any more.
        assert(message.contains("b.csv") == (mode == "direct"), message)
        assert(history(each.setNullPolicy("drop").fit(table))("loss").length == 3)
      }
    }
  }

  test("a plan that only Spark can run is refused with what to do") {
    val table = saved("parquet", 100, 2)
    for (shuffled <- Seq(table.repartition(3), table.orderBy("id"), table.groupBy("label").agg(first("point").as("point")))) {
      val error = intercept[DataException](estimator(1, "direct").fit(shuffled))
      assert(error.getMessage.contains("comes from a shuffle") && error.getMessage.contains("inputMode spark"))
    }
    val few = intercept[ConfigException](Samples.estimator(2).copyWithoutBatchSize.setGlobalBatchSize(1).fit(table))
    assert(few.getMessage.contains("globalBatchSize is 1"))
    assert(intercept[ConfigException](estimator(1, "direct").setRepeat(true).fit(table)).getMessage.contains("stepsPerEpoch"))
    assert(intercept[ConfigException](estimator(1, "spark").setValidationSplit(0.1).fit(table, table)).getMessage.contains("clear it"))
  }

  private implicit class Unset(estimator: KerasEstimator) {
    def copyWithoutEpochs: KerasEstimator = estimator.clear(estimator.epochs).asInstanceOf[KerasEstimator]
    def copyWithoutBatchSize: KerasEstimator = estimator.clear(estimator.batchSize).asInstanceOf[KerasEstimator]
  }
}

object DirectFitSuite {
  private val open = new java.util.concurrent.atomic.AtomicInteger
}
