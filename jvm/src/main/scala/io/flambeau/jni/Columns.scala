// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.apache.spark.sql.types.StructType
import org.json4s.{JNull, JObject, JString, JValue}
import org.json4s.JsonDSL._

/**
 * The columns a session reads, and what they are for.
 *
 * @param features model inputs; several scalar columns make one vector
 * @param nullPolicy "error", "zero" (a null reads as 0) or "drop" (the row is left out)
 */
final case class Columns(
    features: Seq[String],
    label: Option[String],
    weight: Option[String],
    nullPolicy: String) {

  def names: Seq[String] = (features ++ label ++ weight).distinct

  /** The part of `schema` that the session gets. */
  def of(schema: StructType): StructType = StructType(names.map(schema(_)))

  def json: JObject =
    ("features" -> features) ~
      ("label" -> Columns.orNull(label)) ~
      ("weight" -> Columns.orNull(weight)) ~
      ("null_policy" -> nullPolicy)
}

object Columns {
  private def orNull(name: Option[String]): JValue = name.fold[JValue](JNull)(JString(_))
}
