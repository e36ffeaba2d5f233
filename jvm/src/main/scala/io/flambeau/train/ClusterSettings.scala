// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.network.util.JavaUtils
import org.apache.spark.sql.SparkSession

import io.flambeau.ConfigException

/**
 * How the ranks of a fit find each other, from `spark.flambeau.*`.
 *
 * @param port the first port rank 0 tries; `portRetries` more follow
 * @param rendezvousTimeoutMs how long all ranks may take to meet
 * @param progressTimeoutMs how long a living peer may stand still
 */
private[train] final case class ClusterSettings(
    port: Int,
    portRetries: Int,
    rendezvousTimeoutMs: Long,
    progressTimeoutMs: Long)

private[train] object ClusterSettings {
  def of(spark: SparkSession): ClusterSettings = {
    def setting[T](key: String, default: String)(parse: String => T): T = {
      val text = spark.conf.get(key, default)
      try parse(text)
      catch {
        case error: NumberFormatException => throw new ConfigException(s"$key is '$text': ${error.getMessage}", error)
      }
    }
    ClusterSettings(
      setting("spark.flambeau.port", "38400")(_.toInt),
      setting("spark.flambeau.port.maxRetries", "64")(_.toInt),
      setting("spark.flambeau.rendezvousTimeout", "120s")(JavaUtils.timeStringAsSec(_) * 1000),
      setting("spark.flambeau.progressTimeout", "600s")(JavaUtils.timeStringAsSec(_) * 1000))
  }
}
