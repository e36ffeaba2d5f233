// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import scala.util.Try

import org.json4s._
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.{compact, parse}

import io.flambeau.ConfigException

/** A param that maps layers to stages, kept as JSON: `{"dense_4": 1, "dense_8": 2}`. */
private[flambeau] object StagesParam {
  val isValid: String => Boolean = text => fields(text).isDefined

  def json(stages: Map[String, Int]): String = compact(stages: JObject)

  /** @throws ConfigException if it is no JSON object of stages */
  def read(param: String, text: String): Map[String, Int] = fields(text).getOrElse {
    throw new ConfigException(s"""$param is $text, which is no JSON object of stages. Try: {"layer": 1, "other": 2}""")
  }

  private def fields(text: String): Option[Map[String, Int]] = Try(parse(text)).toOption.collect {
    case JObject(fields) if fields.forall(field => stage(field._2).isDefined) =>
      fields.flatMap { case (layer, value) => stage(value).map(layer -> _) }.toMap
  }

  private def stage(value: JValue): Option[Int] = value match {
    case JInt(number) if number >= 0 && number.isValidInt => Some(number.toInt)
    case _ => None
  }
}
