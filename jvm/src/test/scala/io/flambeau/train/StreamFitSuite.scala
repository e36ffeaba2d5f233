// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}

import org.apache.spark.sql.{DataFrame, Dataset, Row}
import org.apache.spark.sql.functions.{col, lit}
import org.apache.spark.sql.streaming.{StreamingQuery, Trigger}
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, Samples, SparkSuite}
import io.flambeau.ml.{KerasEstimator, KerasModel}

/** A model that is trained on a stream, and one that is applied to it. */
class StreamFitSuite extends SparkSuite("local-cluster[2,1,1024]") {
  private val deadline = 240.seconds

  /** Files of a stream's directory, which Spark takes one a micro-batch, in the order of their times. */
  private final class StreamFiles(val folder: Path) {
    private var written = 0

    def write(rows: Long): Unit = {
      val temporary = temporaryDirectory().resolve("part").toString
      Samples.points(spark, rows, 1).withColumn("id", col("id") + lit(1000L * written)).write.parquet(temporary)
      val part = Path.of(temporary).toFile.listFiles.find(_.getName.endsWith(".parquet")).get.toPath
      Files.setLastModifiedTime(part, java.nio.file.attribute.FileTime.fromMillis(1000000L + 1000L * written))
      Files.move(part, folder.resolve(f"part-$written%04d.parquet"))
      written += 1
    }

    def stream(): DataFrame =
      spark.readStream.schema("id long, point array<float>, label long").option("maxFilesPerTrigger", 1)
        .parquet(folder.toString)
  }

  private def files(sizes: Long*): StreamFiles = {
    val made = new StreamFiles(temporaryDirectory())
    sizes.foreach(made.write)
    made
  }

  private def estimator(modelDir: Path): KerasEstimator =
    Samples.estimator(2).setEpochs(2).setModelDir(modelDir.toUri.toString)

  private def start(stream: DataFrame, checkpoint: Path)(train: (Dataset[Row], Long) => Unit): StreamingQuery =
    stream.writeStream
      .foreachBatch(train)
      .option("checkpointLocation", checkpoint.toString)
      .trigger(Trigger.AvailableNow())
      .start()

  /** Runs a stream to the end of its files, or to its failure. */
  private def run(stream: DataFrame, checkpoint: Path)(train: (Dataset[Row], Long) => Unit): Option[Throwable] = {
    val query = start(stream, checkpoint)(train)
    try {
      query.awaitTermination(120000)
      None
    } catch { case error: Throwable => Some(error) }
    finally query.stop()
  }

  private def outputs(modelDir: Path): Seq[Seq[Float]] = {
    val model = KerasModel.fromKerasFile(spark, s"${modelDir.toUri}/export/model.keras").setFeaturesCol("point")
    model.transform(Samples.points(spark, 50, 1)).select("output").collect().map(_.getSeq[Float](0)).toSeq
  }

  private def checkpoints(modelDir: Path): Int =
    modelDir.toFile.list().count(_.startsWith("ckpt-"))

  test("a model that is trained on a stream is applied to it") {
    failAfter(deadline) {
      val (model, checkpoint) = (temporaryDirectory(), temporaryDirectory())
      val input = files(400, 300, 200, 300, 400, 300, 200)
      assert(run(input.stream(), checkpoint)(estimator(model).fitBatch _).isEmpty)
      assert(checkpoints(model) <= 5)
      val trained = KerasModel.fromKerasFile(spark, s"${model.toUri}/export/model.keras").setFeaturesCol("point")
      val predicted = temporaryDirectory().resolve("predicted").toString
      val query = trained.transform(input.stream()).writeStream
        .option("checkpointLocation", temporaryDirectory().toString)
        .trigger(Trigger.AvailableNow())
        .start(predicted)
      query.awaitTermination(120000)
      query.exception.foreach(throw _)
      val rows = spark.read.parquet(predicted)
      assert(rows.count() == 2100)
      assert(rows.where("prediction = label").count() > 1750)
    }
  }

  test("a stream that is stopped, repeated and started again trains every micro-batch once") {
    failAfter(deadline) {
      val sizes = Seq(200L, 150L, 250L, 100L)
      val whole = temporaryDirectory()
      assert(run(files(sizes: _*).stream(), temporaryDirectory())(estimator(whole).fitBatch _).isEmpty)

      val (model, checkpoint) = (temporaryDirectory(), temporaryDirectory())
      val input = files(sizes: _*)
      // Trained, but not noted by Spark: it repeats the micro-batch.
      val lost = run(input.stream(), checkpoint) { (batch, id) =>
        estimator(model).fitBatch(batch, id)
        if (id == 1) throw new IllegalStateException("lost after training")
      }
      assert(lost.exists(_.getMessage.contains("lost after training")))
      // Not trained, by executors that are gone before the next start.
      val refused = run(input.stream(), checkpoint) { (batch, id) =>
        if (id == 2) throw new IllegalStateException("lost before training")
        estimator(model).fitBatch(batch, id)
      }
      assert(refused.exists(_.getMessage.contains("lost before training")))
      killOneExecutor()
      assert(run(input.stream(), checkpoint)(estimator(model).fitBatch _).isEmpty)
      assert(outputs(model) == outputs(whole))
    }
  }

  test("an executor that is killed within a micro-batch costs nothing but time") {
    failAfter(deadline) {
      val sizes = Seq(300L, 20000L, 100L)
      val whole = temporaryDirectory()
      assert(run(files(sizes: _*).stream(), temporaryDirectory())(estimator(whole).fitBatch _).isEmpty)
      val model = temporaryDirectory()
      var killed = false
      val query = run(files(sizes: _*).stream(), temporaryDirectory()) { (batch, id) =>
        if (id == 1 && !killed) {
          killed = true
          new Thread(() => { Thread.sleep(3000); killOneExecutor() }).start()
        }
        estimator(model).fitBatch(batch, id)
      }
      assert(query.isEmpty && killed)
      assert(outputs(model) == outputs(whole))
    }
  }

  test("what no stream can be trained with is refused") {
    val data = Samples.points(spark, 10, 1).toDF()
    def refusal(estimator: KerasEstimator, number: Long): String =
      intercept[ConfigException](estimator.fitBatch(data, number)).getMessage
    assert(refusal(Samples.estimator(1), 0).contains("modelDir is not set"))
    assert(refusal(estimator(temporaryDirectory()).setInputMode("direct"), 0).contains("the rows of a stream come once"))
    assert(refusal(estimator(temporaryDirectory()), 7).contains("checkpointLocation"))
  }
}
