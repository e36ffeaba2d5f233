// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import org.apache.spark.ml.image.ImageSchema
import org.apache.spark.sql.types._
import org.json4s.JString
import org.json4s.jackson.JsonMethods.parse

import io.flambeau.{ConfigException, DataException, Samples, SparkSuite}

class KerasEstimatorSuite extends SparkSuite {
  private val schema = new StructType()
    .add("image", ArrayType(FloatType))
    .add("label", LongType)
    .add("name", StringType)
    .add("price", DecimalType(10, 2))
    .add("flags", MapType(StringType, LongType))

  private def estimator: KerasEstimator = new KerasEstimator().setModel("{}").setFeaturesCol("image")

  private def refusal(change: KerasEstimator => KerasEstimator): String =
    intercept[DataException](change(estimator).transformSchema(schema)).getMessage

  test("prediction and output are appended to all input columns") {
    val out = estimator.transformSchema(schema)
    assert(out.fieldNames.toSeq == schema.fieldNames.toSeq ++ Seq("prediction", "output"))
    assert(out("output").dataType == ArrayType(FloatType, containsNull = false))
  }

  test("a missing column is named beside those that are there") {
    assert(refusal(_.setFeatureCols(Array("image", "imge"))) ==
      "feature column 'imge' is no column of the DataFrame; it has 'image', 'label', 'name', 'price', 'flags'")
    assert(refusal(_.setLabelCol("y")).startsWith("label column 'y' is no column"))
    assert(refusal(_.setWeightCol("w")).startsWith("weightCol 'w' is no column"))
  }

  test("a wrong type is named with the accepted ones") {
    assert(refusal(_.setFeaturesCol("flags")).startsWith(
      "feature column 'flags' has type MAP<STRING, BIGINT>; it must be boolean, tinyint"))
    assert(refusal(_.setLabelCol("name")).contains("'name' has type STRING"))
    assert(refusal(_.setLabelCol("flags")).contains("'flags' has type MAP<STRING, BIGINT>"))
    assert(refusal(_.setWeightCol("image")).contains("'image' has type ARRAY<FLOAT>"))
    assert(refusal(_.setValidationIndicatorCol("label")).contains("it must be boolean"))
  }

  test("decimals, dates and timestamps are numbers") {
    val times = new StructType().add("day", DateType).add("at", TimestampType).add("price", DecimalType(10, 2))
    val stage = new KerasEstimator().setModel("{}").setFeatureCols(Array("day", "at", "price")).setLabelCol("price")
    assert(stage.setWeightCol("price").transformSchema(times).length == 5)
  }

  test("images are binary or Spark's own, and among the features") {
    val photos = new StructType().add("photo", BinaryType).add("image", ImageSchema.columnSchema).add("label", LongType)
    def stage(features: String*) = new KerasEstimator().setModel("{}").setFeatureCols(features.toArray)
    stage("photo", "image").setImageCols(Array("photo", "image")).transformSchema(photos)
    def message(stage: KerasEstimator): String = intercept[DataException](stage.transformSchema(photos)).getMessage
    assert(message(stage("image").setImageCols(Array("photo"))) ==
      "imageCols names 'photo', which is no feature column; those are 'image'")
    assert(message(stage("label").setImageCols(Array("label"))).startsWith("imageCols 'label' has type BIGINT"))
  }

  test("a choice is a word, or a word for each name") {
    val stage = estimator.setSequencePadding("pre").setLabelEncoding(Map("classes" -> "one_hot"))
    assert(stage.columns.json \ "sequence_padding" == JString("pre"))
    assert(stage.columns.json \ "label_encoding" \ "classes" == JString("one_hot"))
    for (wrong <- Seq("left", """{"text": "left"}""", """{"text": 1}""", "{")) {
      intercept[IllegalArgumentException](estimator.setSequenceTruncating(wrong))
    }
    intercept[IllegalArgumentException](estimator.setImageResize("bicubic"))
  }

  test("a learning rate goes to the optimizer, in place of a schedule, also within a wrapper") {
    def rated(optimizer: String) = ModelSource.withLearningRate(ModelSource.spec(optimizer), 0.5)
    assert(rated("adam") == parse("""{"class_name": "adam", "config": {"learning_rate": 0.5}}"""))
    val scheduled = """{"class_name": "SGD", "config": {"learning_rate": {"class_name": "CosineDecay"}, "momentum": 0.9}}"""
    assert(rated(scheduled) == parse("""{"class_name": "SGD", "config": {"momentum": 0.9, "learning_rate": 0.5}}"""))
    def wrapped(inner: String) =
      s"""{"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": {"class_name": "SGD", "config": {$inner}}}}"""
    assert(rated(wrapped("")) == parse(wrapped(""""learning_rate": 0.5""")))
    val error = intercept[ConfigException](estimator.setLearningRate(0.1).fit(data))
    assert(error.getMessage.startsWith("learningRate is set without optimizer"))
  }

  test("an output column that is there already is refused") {
    assert(refusal(_.setPredictionCol("label")).contains("column 'label' is there already; set predictionCol"))
  }

  private def data = spark.range(4).selectExpr("array(cast(id as float)) as image", "id as label")

  test("a fit without a model says what to set") {
    val error = intercept[ConfigException](new KerasEstimator().setFeaturesCol("image").fit(data))
    assert(error.getMessage.startsWith("model is not set. Try: setModel"))
  }

  test("a model file that is not there is named") {
    val error = intercept[ConfigException](estimator.setModel("/no/such/model.keras").fit(data))
    assert(error.getMessage.contains("/no/such/model.keras cannot be read"))
  }

  test("two ways to hold rows out are refused") {
    val both = estimator.setValidationIndicatorCol("held").setValidationSplit(0.5)
    val error = intercept[ConfigException](both.fit(data.selectExpr("*", "true as held")))
    assert(error.getMessage.contains("validationIndicatorCol and validationSplit are both set"))
  }

  test("a model directory that cannot be written is refused before any task runs") {
    val error = intercept[ConfigException](Samples.estimator(1).setModelDir("/proc/flambeau").fit(Samples.points(spark, 10, 1)))
    assert(error.getMessage.contains("modelDir /proc/flambeau cannot be written"))
  }

  test("an estimator is saved and loaded with all its parameters") {
    val path = temporaryDirectory().resolve("estimator").toString
    val saved = estimator.setEpochs(7).setModel(Array[Byte](1, 2, 3)).setMetrics(Array("accuracy"))
    saved.save(path)
    val loaded = KerasEstimator.load(path)
    assert(loaded.uid == saved.uid && loaded.extractParamMap().toSeq.map(_.value).map(show).toSet ==
      saved.extractParamMap().toSeq.map(_.value).map(show).toSet)
  }

  private def show(value: Any): String = value match {
    case array: Array[_] => array.mkString(",")
    case other => other.toString
  }
}
