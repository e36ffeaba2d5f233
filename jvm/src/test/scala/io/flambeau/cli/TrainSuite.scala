// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.{ByteArrayOutputStream, PrintStream}
import java.nio.file.{Files, Path}

import org.apache.spark.sql.SparkSession

import io.flambeau.{Samples, SparkSuite}

class TrainSuite extends SparkSuite {

  private def run(args: String*): (Int, String) = {
    val text = new ByteArrayOutputStream
    val stream = new PrintStream(text, true)
    (Main.run(args, stream, stream), text.toString)
  }

  private def train(folder: Path, name: String, more: String*): (Int, String) = {
    val model = Files.writeString(folder.resolve("model.json"), Samples.Classifier)
    val options = Seq("--model", model, "--data", table(folder), "--format", "parquet", "--optimizer", "adam",
      "--loss", "sparse_categorical_crossentropy", "--model-dir", folder.resolve(name))
    run("train" +: (options.map(_.toString) ++ more): _*)
  }

  private def table(folder: Path): String = {
    val path = folder.resolve("points").toString
    val points = Samples.points(spark, 200, 2).selectExpr("point[0] as x", "point[1] as y", "label", "float(id) as id")
    points.write.mode("overwrite").parquet(path)
    path
  }

  test("every option of training reaches the job") {
    val folder = temporaryDirectory()
    val (code, text) = train(folder, "first", "--features", "x,y", "--epochs", "3", "--batch-size", "16",
      "--validation-split", "0.25", "--metrics", "accuracy", "--weighted-metrics", "sparse_categorical_crossentropy",
      "--class-weight", """{"0": 1.0, "1": 2.0}""", "--shuffle", "false", "--keep-checkpoints", "1",
      "--resume", "false", "--evaluator", "true", "--learning-rate", "0.01", "--shard-optimizer-state", "true", "--export-formats", "weights.h5,h5,tf")
    assert(code == 0, text)
    val loss = "sparse_categorical_crossentropy"
    for (metric <- Seq("accuracy", loss, "val_accuracy", s"val_$loss")) assert(text.contains(s"$metric 0."), text)
    val first = folder.resolve("first")
    val exports = Seq("keras", "weights.h5", "h5", "ckpt.index").map(ending => s"export/model.$ending")
    exports.foreach(name => assert(Files.exists(first.resolve(name)), name))
    assert(first.toFile.list().count(_.startsWith("ckpt-")) == 1)

    val weights = first.resolve("export/model.weights.h5").toString
    val (again, said) = train(folder, "second", "--input-mapping", """{"point": ["x", "y"]}""",
      "--initial-weights", weights, "--skip-mismatch", "true", "--frozen-layers", "hidden,classes")
    assert(again == 0, said)
    // All layers are frozen: the second model is the first.
    val outputs = Seq("first", "second").map { name =>
      val lines = folder.resolve(s"$name.txt").toString
      val (done, told) = run("predict", "--model-dir", folder.resolve(name).toString, "--data", table(folder),
        "--format", "parquet", "--input-mapping", """{"point": ["x", "y"]}""", "--output", lines)
      assert(done == 0, told)
      spark.read.text(lines).collect().map(_.getString(0).split(' ').drop(1).mkString(" ")).sorted.toSeq
    }
    assert(outputs.head == outputs.last)
  }

  test("columns are read as options say") {
    val folder = temporaryDirectory()
    val path = folder.resolve("ragged").toString
    spark.range(40).selectExpr("array_repeat(cast(id as float), cast(id % 3 as int)) as point",
      "if(id % 2 = 0, array(1, 0), array(0, 1)) as vector", "cast(id % 2 as int) as label").write.parquet(path)
    val model = Files.writeString(folder.resolve("model.json"), Samples.Classifier)
    val columns = Seq("--data", path, "--format", "parquet", "--features", "point", "--sequence-padding", "post",
      "--sequence-truncating", """{"point": "pre"}""", "--image-resize", "bilinear")
    val directory = folder.resolve("trained").toString
    val (code, text) = run(Seq("train", "--model", model.toString, "--loss", "sparse_categorical_crossentropy",
      "--optimizer", "sgd", "--label", "vector", "--label-encoding", "argmax", "--model-dir", directory) ++ columns: _*)
    assert(code == 0, text)
    val (done, told) = run(Seq("predict", "--model-dir", directory, "--output", s"$directory.txt") ++ columns: _*)
    assert(done == 0, told)
    val (refused, why) = run("predict", "--model-dir", directory, "--data", path, "--format", "parquet",
      "--features", "point", "--images", "label", "--output", s"$directory.2")
    assert(refused == 1 && why.contains("imageCols names 'label'"), why)
    val (wrong, usage) = run(Seq("predict", "--model-dir", directory, "--output", s"$directory.3",
      "--image-resize", "bigger", "--data", path): _*)
    assert(wrong == 2 && usage.contains("imageResize"), usage)
  }

  test("steps, files that workers read, and a table to validate with") {
    val folder = temporaryDirectory()
    val held = table(temporaryDirectory())
    val (code, text) = train(folder, "direct", "--features", "x,y", "--input-mode", "direct", "--max-steps", "25",
      "--steps-per-epoch", "10", "--repeat", "true", "--global-batch-size", "20", "--drop-remainder", "true",
      "--shuffle-buffer", "50", "--checkpoint-every-steps", "7", "--local-steps", "3", "--validation", held)
    assert(code == 0, text)
    assert(text.contains("trained 3 epochs: loss ") && text.contains("val_loss "), text)
    val (both, said) = train(folder, "direct", "--features", "x,y", "--batch-size", "2", "--global-batch-size", "2")
    assert(both == 1 && said.contains("batchSize and globalBatchSize are both set"), said)
  }

  test("a directory in which files arrive trains a model, whose predictions are a stream of lines") {
    val folder = temporaryDirectory()
    val state = folder.resolve("state").toString
    def trained(): String = {
      val (code, text) = train(folder, "streamed", "--features", "x,y", "--stream", state, "--epochs", "2")
      assert(code == 0, text)
      text
    }
    assert(trained().contains("the stream is at its end; model in "))
    // Nothing new has arrived.
    assert(!trained().contains("epoch 1/2"))
    val lines = folder.resolve("lines").toString
    val (code, text) = run("predict", "--model-dir", folder.resolve("streamed").toString, "--data", table(folder),
      "--format", "parquet", "--features", "x,y", "--output", lines, "--stream", folder.resolve("lines-state").toString)
    assert(code == 0, text)
    assert(spark.read.text(lines).where("value rlike 'Label: [01], Prediction: [01]$'").count() == 200)
    val (refused, said) = train(folder, "streamed", "--features", "x,y", "--stream", state, "--trigger", "soon")
    assert(refused == 2 && said.contains("usage: train"), said)
  }

  test("what an option names and is not there is refused") {
    val folder = temporaryDirectory()
    def refused(more: String*): String = {
      val (code, text) = train(folder, "refused", more: _*)
      assert(code == 1 || code == 2, text)
      text
    }
    assert(refused("--features", "x,y", "--initial-weights", "/no/such.h5").contains("/no/such.h5"))
    assert(refused("--features", "x,y", "--frozen-layers", "hiden").contains("hiden"))
    assert(refused("--input-mapping", "x,y").contains("inputMapping"))
    assert(refused("--features", "x,y", "--label-mapping", """{"class": ["label"]}""").contains("class"))
    assert(refused("--features", "x,y", "--validation-split", "1").contains("--validation-split must be a number from 0"))
    assert(refused("--features", "x,y", "--shuffle", "yes").contains("--shuffle must be true or false"))
  }

  test("an option that a param refuses ends with 2, and nothing that goes wrong later does") {
    val (code, text) = train(temporaryDirectory(), "refused", "--features", "x,y", "--export-formats", "zip")
    assert(code == 2 && text.contains("exportFormats") && text.contains("usage: train"), text)
    val failing = new Command {
      override val name = "fail"
      override val meaning = "fail where no option is at fault"
      override val flags: Seq[Flag] = Seq(Flag("data", "nothing"))
      override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit =
        throw new IllegalArgumentException("a bug")
    }
    intercept[IllegalArgumentException](Main.run(Seq("fail"), System.out, System.err, Seq(failing)))
  }
}
