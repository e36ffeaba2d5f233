// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.security.SecureRandom
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec

import org.apache.spark.sql.flambeau.SparkInternals

/**
 * What the ranks of one fit share and nobody else has. It travels in the tasks' closure, and nowhere
 * else: not in settings, properties, accumulators or messages.
 */
private[train] final class JobSecret private (random: Array[Byte]) extends Serializable {
  import JobSecret._

  /**
   * The key of the ranks, on an executor: where Spark authenticates its own processes, only theirs
   * can make it.
   */
  def key(): Array[Byte] = {
    val mac = Mac.getInstance(Algorithm)
    mac.init(new SecretKeySpec(random, Algorithm))
    mac.update(Purpose)
    SparkInternals.applicationSecret.foreach(mac.update)
    mac.doFinal()
  }

  override def toString: String = "JobSecret(hidden)"
}

private[train] object JobSecret {
  private val Bytes = 32
  private val Algorithm = "HmacSHA256"
  private val Purpose = "flambeau ranks 1".getBytes("UTF-8")

  def create(): JobSecret = {
    val random = new Array[Byte](Bytes)
    new SecureRandom().nextBytes(random)
    new JobSecret(random)
  }
}
