// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import scala.util.Try

import org.json4s._
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.{compact, parse}

/**
 * A param that is one of some words, or a JSON object of words by the name of an input or output:
 * `{"text": "post"}`.
 */
private[flambeau] object ChoiceParam {

  def isValid(words: String*): String => Boolean =
    text => words.contains(text) || Try(chosen(text)).toOption.exists(_.forall(words.contains))

  def json(choices: Map[String, String]): String = compact(choices: JObject)

  private def chosen(text: String): Seq[String] = parse(text) match {
    case JObject(fields) => fields.map { case (_, choice) => choice.asInstanceOf[JString].s }
    case _ => Seq(text)
  }
}
