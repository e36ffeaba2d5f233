// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import scala.collection.immutable.ListMap

import org.json4s.{JArray, JDouble, JInt, JNull, JObject, JValue}

/** A fit's history as JSON, metrics in their order; JSON has no NaN, a null stands for it. */
private[flambeau] object History {

  def of(json: JValue): Map[String, Array[Double]] = json match {
    case JObject(fields) => ListMap.from(fields.map { case (metric, values) => metric -> numbers(values) })
    case _ => Map.empty
  }

  def json(history: Map[String, Array[Double]]): JObject =
    JObject(history.toList.map { case (metric, values) =>
      metric -> JArray(values.toList.map(value => if (value.isNaN) JNull else JDouble(value)))
    })

  private def numbers(values: JValue): Array[Double] = values match {
    case JArray(items) => items.map(number).toArray
    case _ => Array.empty
  }

  /** A number, or NaN for anything else. */
  def number(value: JValue): Double = value match {
    case JInt(whole) => whole.toDouble
    case JDouble(real) => real
    case _ => Double.NaN
  }
}
