// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.apache.spark.sql.flambeau.StackedColumns
import org.apache.spark.sql.types.StructType
import org.json4s.{JNull, JObject, JString, JValue}
import org.json4s.JsonDSL._

/**
 * The columns a session reads, and what they are for.
 *
 * @param features of a model with one input its columns, joined in this order; of a model with
 *     several inputs one column for each, in the model's order
 * @param inputs columns of each input by its name; wins over `features` unless empty
 * @param labels likewise for the model's outputs; empty when predicting
 * @param outputs label columns of each output by its name; wins over `labels` unless empty
 * @param nullPolicy "error", "zero" (a null reads as 0) or "drop" (the row is left out)
 */
final case class Columns(
    features: Seq[String],
    inputs: Map[String, Seq[String]],
    labels: Seq[String],
    outputs: Map[String, Seq[String]],
    weight: Option[String],
    nullPolicy: String) {

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
      ("null_policy" -> nullPolicy)
}
