// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.io.ByteArrayOutputStream
import java.nio.charset.StandardCharsets.UTF_8
import java.util.zip.{ZipEntry, ZipOutputStream}

import org.json4s.JString

import io.flambeau.SparkSuite

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

  test("the largest output is the class, the first of equal ones") {
    assert(Prediction.of(Array(0.1f, 0.7f, 0.2f), binary = false) == 1.0)
    assert(Prediction.of(Array(0.5f, 0.5f), binary = true) == 0.0)
  }

  test("a lone output is rounded only if it is a probability") {
    assert(Prediction.of(Array(0.75f), binary = true) == 1.0)
    assert(Prediction.of(Array(0.25f), binary = true) == 0.0)
    assert(Prediction.of(Array(0.75f), binary = false) == 0.75)
  }

  test("the loss is read from a .keras archive") {
    assert(ModelSource.compiledLoss(archive("""{"compile_config":{"loss":"mse"}}""")).contains(JString("mse")))
    assert(ModelSource.compiledLoss(archive("""{"compile_config":null}""")).isEmpty)
    val config = archive("""{"compile_config":{"loss":{"class_name":"BinaryCrossentropy"}}}""")
    assert(ModelSource.compiledLoss(config).exists(ModelSource.isBinaryCrossentropy))
  }
}
