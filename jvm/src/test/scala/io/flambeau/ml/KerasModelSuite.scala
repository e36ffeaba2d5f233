// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.io.ByteArrayOutputStream
import java.nio.charset.StandardCharsets.UTF_8
import java.util.zip.{ZipEntry, ZipOutputStream}

import org.apache.spark.sql.types.StructType
import org.json4s.JString
import org.json4s.jackson.JsonMethods.parse

import io.flambeau.{ConfigException, SparkSuite}

class KerasModelSuite extends SparkSuite {

  private def archive(config: String): Array[Byte] = {
    val bytes = new ByteArrayOutputStream
    val zip = new ZipOutputStream(bytes)
    for ((name, text) <- Seq("metadata.json" -> "{}", "config.json" -> config)) {
      zip.putNextEntry(new ZipEntry(name))
      zip.write(text.getBytes(UTF_8))
    }
    zip.close()
    bytes.toByteArray
  }

  test("a model is saved and loaded with weights, history and parameters") {
    val path = temporaryDirectory().resolve("model").toString
    val history = Map("loss" -> Array(0.5, Double.NaN))
    val model = new KerasModel("keras_1", Array[Byte](1, 2, 3), history).setFeaturesCol("image")
    model.save(path)
    model.write.overwrite().save(path)
    val loaded = KerasModel.load(path)
    assert(loaded.uid == "keras_1" && loaded.getFeaturesCol == "image")
    assert(loaded.keras.toSeq == Seq[Byte](1, 2, 3))
    assert(loaded.history("loss").head == 0.5 && loaded.history("loss").last.isNaN)
    assert(loaded.historyJson == """{"loss":[0.5,null]}""")
  }

  test("the largest score is the class, the first of equal ones") {
    assert(Prediction.of(Array(0.1f, 0.7f, 0.2f), Meaning.Classes) == 1.0)
    assert(Prediction.of(Array(0.5f, 0.5f), Meaning.Classes) == 0.0)
  }

  test("a lone output is rounded only if it answers yes or no, several values are no prediction") {
    assert(Prediction.of(Array(0.75f), Meaning.Binary(0.5f)) == 1.0)
    assert(Prediction.of(Array(0.25f), Meaning.Binary(0.5f)) == 0.0)
    assert(Prediction.of(Array(0.25f), Meaning.Binary(0f)) == 1.0)
    assert(Prediction.of(Array(0.75f), Meaning.Values) == 0.75)
    assert(Prediction.of(Array(0.75f, 1f), Meaning.Values) == null)
  }

  test("the loss is read from a .keras archive") {
    def loss(config: String) = ModelSource.config(archive(config)).flatMap(ModelSource.compiledLoss)
    assert(loss("""{"compile_config":{"loss":"mse"}}""").contains(JString("mse")))
    assert(loss("""{"compile_config":null}""").isEmpty)
  }

  private def dense(name: String, activation: String): String =
    s"""{"class_name":"Dense","config":{"name":"$name","activation":"$activation"}}"""

  private def meanings(layers: Seq[String], outputs: String, loss: String): Seq[ModelOutput] =
    ModelOutputs.of(
      parse(s"""{"class_name":"Functional","config":{"layers":[${layers.mkString(",")}],"output_layers":$outputs}}"""),
      Option(loss).map(parse(_)))

  test("what an output means follows its loss and its last activation") {
    def one(activation: String, loss: String) =
      meanings(Seq(dense("a", activation)), """[["a",0,0]]""", loss).map(_.meaning)
    assert(one("linear", """{"class_name":"BinaryCrossentropy","config":{"from_logits":true}}""") == Seq(Meaning.Binary(0f)))
    assert(one("sigmoid", """{"class_name":"BinaryCrossentropy","config":{"from_logits":true}}""") == Seq(Meaning.Binary(0.5f)))
    assert(one("linear", """{"class_name":"SparseCategoricalCrossentropy","config":{}}""") == Seq(Meaning.Classes))
    assert(one("sigmoid", """{"class_name":"MeanSquaredError","config":{}}""") == Seq(Meaning.Values))
    assert(one("softmax", null) == Seq(Meaning.Classes))
    assert(one("linear", null) == Seq(Meaning.Values))
  }

  test("several outputs come in Keras's order, each with its own loss") {
    val layers = Seq(dense("a", "linear"), dense("b", "softmax"))
    val found = meanings(layers, """{"z":["a",0,0],"y":["b",0,0]}""", """{"a":"mse","b":"categorical_crossentropy"}""")
    assert(found == Seq(ModelOutput("b", Meaning.Classes), ModelOutput("a", Meaning.Values)))
    val schema = KerasModel.appended(new StructType(), found, "p", "o")
    assert(schema.fieldNames.toSeq == Seq("p_b", "o_b", "p_a", "o_a"))
  }

  test("a mapping of inputs to columns is JSON") {
    val read = MappingParam.read("inputMapping", """{"image": "pixels", "rest": ["a", "b"]}""")
    assert(read == Map("image" -> Seq("pixels"), "rest" -> Seq("a", "b")))
    val message = intercept[ConfigException](MappingParam.read("inputMapping", """{"image": 3}""")).getMessage
    assert(message.contains("inputMapping is"))
  }
}
