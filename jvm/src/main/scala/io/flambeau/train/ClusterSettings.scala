// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.{SparkConf, SparkContext}
import org.apache.spark.network.util.JavaUtils
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.flambeau.SparkInternals

import io.flambeau.ConfigException

/**
 * How the ranks of a fit find each other and what they may take, from `spark.flambeau.*`.
 *
 * @param port the first port rank 0 tries; `portRetries` more follow
 * @param rendezvousTimeoutMs how long all ranks may take to meet
 * @param progressTimeoutMs how long a living peer may stand still
 * @param cacheBytes memory for one rank's rows
 * @param stragglerMs how long a rank holds the others up before it is named
 * @param transports over what data travels between ranks
 * @param security how the ranks protect what they exchange
 */
private[train] final case class ClusterSettings(
    port: Int,
    portRetries: Int,
    rendezvousTimeoutMs: Long,
    progressTimeoutMs: Long,
    stragglerMs: Long,
    transports: Transports,
    cacheBytes: Long,
    security: LinkSecurity)

private[train] object ClusterSettings {
  private val MiB = 1L << 20

  /** Of a session whose executors have registered. */
  def of(spark: SparkSession): ClusterSettings = {
    val sc = spark.sparkContext
    def setting[T](key: String, default: String)(parse: String => T): T = {
      val text = spark.conf.get(key, default)
      try parse(text)
      catch {
        case error: NumberFormatException => throw new ConfigException(s"$key is '$text': ${error.getMessage}", error)
      }
    }
    ClusterSettings(
      setting("spark.flambeau.port", "28400")(_.toInt),
      setting("spark.flambeau.port.maxRetries", "64")(_.toInt),
      setting("spark.flambeau.rendezvousTimeout", "120s")(JavaUtils.timeStringAsSec(_) * 1000),
      setting("spark.flambeau.progressTimeout", "600s")(JavaUtils.timeStringAsSec(_) * 1000),
      // Shorter in tests only, which is why no page has it.
      setting("spark.flambeau.internal.stragglerAfter", "30s")(JavaUtils.timeStringAsSec(_) * 1000),
      Transports.of(spark.conf.getOption(_)),
      cacheBytes(
        setting("spark.flambeau.cache.memory", s"${defaultCacheMiB(sc.getConf, sc.isLocal)}m")(JavaUtils.byteStringAsBytes),
        ranksPerExecutor(sc)),
      LinkSecurity.of(spark.conf.getOption(_)))
  }

  /** A rank's share of an executor's memory for rows: at least a mebibyte. */
  def cacheBytes(executor: Long, ranks: Int): Long = (executor / ranks).max(MiB)

  /** Half of the memory that Spark leaves an executor outside its heap, or the driver where tasks run there. */
  def defaultCacheMiB(conf: SparkConf, local: Boolean): Long = {
    val process = if (local) "spark.driver" else "spark.executor"
    val overhead =
      if (conf.contains(s"$process.memoryOverhead")) conf.getSizeAsMb(s"$process.memoryOverhead")
      else {
        val share = conf.getDouble(s"$process.memoryOverheadFactor", 0.1) * conf.getSizeAsMb(s"$process.memory", "1g")
        share.toLong.max(conf.getSizeAsMb(s"$process.minMemoryOverhead", "384m"))
      }
    overhead / 2
  }

  /** Tasks that run at once on an executor: its cores by `spark.task.cpus`. */
  private def ranksPerExecutor(sc: SparkContext): Int = {
    val executors = if (sc.isLocal) 1 else (sc.statusTracker.getExecutorInfos.length - 1).max(1)
    math.ceil(SparkInternals.slots(sc).toDouble / executors).toInt.max(1)
  }
}
