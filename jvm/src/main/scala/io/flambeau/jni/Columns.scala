// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.apache.spark.sql.flambeau.StackedColumns
import org.apache.spark.sql.Column
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types.StructType
import org.json4s.{JNull, JObject, JString, JValue}
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.parse

/**
 * The columns a session reads, and what they are for.
 *
 * @param features of a model with one input its columns, joined in this order; of a model with
 *     several inputs one column for each, in the model's order
 * @param inputs columns of each input by its name; wins over `features` unless empty
 * @param labels likewise for the model's outputs; empty when predicting
 * @param outputs label columns of each output by its name; wins over `labels` unless empty
 * @param nullPolicy "error", "zero" (a null reads as 0) or "drop" (the row is left out)
 * @param mapping what their types do not say
 */
final case class Columns(
    features: Seq[String],
    inputs: Map[String, Seq[String]],
    labels: Seq[String],
    outputs: Map[String, Seq[String]],
    weight: Option[String],
    nullPolicy: String,
    mapping: ColumnMapping = ColumnMapping()) {

  /** The columns that feed the model. */
  def inputNames: Seq[String] = (if (inputs.isEmpty) features else inputs.values.flatten.toSeq).distinct

  /** The columns of the labels. */
  def labelNames: Seq[String] = (if (outputs.isEmpty) labels else outputs.values.flatten.toSeq).distinct

  def names: Seq[String] = (inputNames ++ labelNames ++ weight).distinct

  /** The part of `schema` that the session gets, stacked where that is possible. */
  def of(schema: StructType): StructType = StackedColumns.allow(StructType(names.map(schema(_))))

  def json: JObject =
    ("features" -> features) ~
      ("inputs" -> inputs) ~
      ("labels" -> labels) ~
      ("outputs" -> outputs) ~
      ("weight" -> weight.fold[JValue](JNull)(JString(_))) ~
      ("null_policy" -> nullPolicy) ~
      ("images" -> mapping.images) ~
      ("image_resize" -> mapping.imageResize) ~
      ("label_encoding" -> choice(mapping.labelEncoding)) ~
      ("sequence_padding" -> choice(mapping.sequencePadding)) ~
      ("sequence_truncating" -> choice(mapping.sequenceTruncating))

  private def choice(text: String): JValue = if (text.trim.startsWith("{")) parse(text) else JString(text)
}

/**
 * How columns become what the model takes. What is a choice is one word, or a JSON object of words
 * by the name of an input or output.
 *
 * @param images binary columns that hold encoded images
 * @param imageResize of images of another size: "error", "nearest" or "bilinear"
 * @param labelEncoding a choice of "none", "one_hot" (of class ids) or "argmax" (of one-hot vectors)
 * @param sequencePadding a choice of "error", "pre" or "post": where arrays that are too short are filled up
 * @param sequenceTruncating likewise, where arrays that are too long are cut
 */
final case class ColumnMapping(
    images: Seq[String] = Nil,
    imageResize: String = "error",
    labelEncoding: String = "none",
    sequencePadding: String = "error",
    sequenceTruncating: String = "error")

object Columns {

  /** The column of that name, whatever characters are in it. */
  def named(name: String): Column = col("`" + name.replace("`", "``") + "`")
}
