// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.apache.spark.sql.flambeau.ArrowSchema
import org.apache.spark.sql.types.StructType
import org.json4s.{JObject, JValue}
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.compact
import org.slf4j.LoggerFactory

import io.flambeau.NativeLoadException

/**
 * Refuses on the driver, before any job, what native code refuses without having seen a row: the
 * model, its compile settings, columns that do not fit them. The driver needs no libtorch; where
 * it has none the executors do the refusing.
 */
private[flambeau] object DriverCheck {
  private val log = LoggerFactory.getLogger(getClass.getName.stripSuffix("$"))

  /**
   * @param schema of rows that have the columns
   * @param training optimizer, loss, metrics, batch size, epochs, shuffling and seed
   * @param weights files of initial weights one after the other, or null
   * @throws io.flambeau.FlambeauException as the ranks would
   */
  def fit(columns: Columns, schema: StructType, training: JValue, model: Array[Byte], weights: Array[Byte]): Unit =
    check(("kind" -> "fit") ~ ("columns" -> columns.json) ~ ("fit" -> training), columns.of(schema), model, weights)

  /** @throws io.flambeau.FlambeauException as the tasks would */
  def predict(columns: Columns, schema: StructType, model: Array[Byte]): Unit =
    check(("kind" -> "predict") ~ ("threads" -> 1) ~ ("columns" -> columns.json), columns.of(schema), model, null)

  private def check(config: JObject, schema: StructType, model: Array[Byte], weights: Array[Byte]): Unit =
    if (isLoaded) Native.check(compact(config), ArrowSchema.message(schema), model, weights)

  private def isLoaded: Boolean =
    try {
      NativeLibrary.load()
      true
    } catch {
      case absent: NativeLoadException =>
        log.info(s"model and columns are left to the executors to check: ${absent.getMessage}")
        false
    }
}
