// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import scala.util.Try

import org.json4s._
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.{compact, parse}

import io.flambeau.ConfigException

/** A param that maps names to columns, kept as JSON: `{"image": "pixels", "tabular": ["a", "b"]}`. */
private[flambeau] object MappingParam {
  val isValid: String => Boolean = text => Try(fields(text)).toOption.flatten.isDefined

  def json(mapping: Map[String, Seq[String]]): String = compact(mapping: JObject)

  /** @throws ConfigException if it is no JSON object of columns */
  def read(param: String, text: String): Map[String, Seq[String]] =
    Try(fields(text)).toOption.flatten.getOrElse {
      throw new ConfigException(
        s"""$param is $text, which is no JSON object of columns. Try: {"name": "column", "other": ["a", "b"]}""")
    }

  private def fields(text: String): Option[Map[String, Seq[String]]] = parse(text) match {
    case JObject(fields) =>
      val read = fields.map {
        case (name, JString(column)) => Some(name -> Seq(column))
        case (name, JArray(items)) =>
          val columns = items.collect { case JString(column) => column }
          Option.when(columns.nonEmpty && columns.length == items.length)(name -> columns)
        case _ => None
      }
      Option.when(read.forall(_.isDefined))(read.flatten.toMap)
    case _ => None
  }
}
