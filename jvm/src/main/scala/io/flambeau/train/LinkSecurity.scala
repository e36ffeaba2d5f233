// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.slf4j.LoggerFactory

import io.flambeau.ConfigException

/**
 * How ranks protect what they send each other, by its name in `spark.flambeau.security` and in the
 * session's document. That a rank is one of the job is proved in every mode.
 */
private[train] sealed abstract class LinkSecurity(val name: String)

private[train] object LinkSecurity {

  /** Altered data are an error, but can be read on the way. */
  case object Auth extends LinkSecurity("auth")

  /** Data can neither be read nor altered on the way. */
  case object Encrypt extends LinkSecurity("encrypt")

  /** Data are protected against damage only. */
  case object Off extends LinkSecurity("off")

  val Key = "spark.flambeau.security"
  val AllowKey = "spark.flambeau.allowInsecure"
  private val encryptedSpark =
    Seq("spark.network.crypto.enabled", "spark.ssl.enabled", "spark.ssl.rpc.enabled", "spark.authenticate.enableSaslEncryption")
  private val log = LoggerFactory.getLogger(getClass.getName.stripSuffix("$"))

  /**
   * What the settings ask for: without a word of their own, as much as Spark's own traffic has.
   *
   * @throws ConfigException for a name that is none, or `off` without its second key
   */
  def of(setting: String => Option[String]): LinkSecurity = {
    def isTrue(key: String): Boolean = setting(key).exists(_.trim.equalsIgnoreCase("true"))
    setting(Key).map(_.trim).getOrElse("auto") match {
      case "auto" => if (encryptedSpark.exists(isTrue)) Encrypt else Auth
      case Auth.name => Auth
      case Encrypt.name => Encrypt
      case Off.name if isTrue(AllowKey) =>
        log.warn(s"$Key is off: whoever can reach the network between the executors can alter what they train")
        Off
      case Off.name =>
        throw new ConfigException(s"$Key is off, which lets anyone on the network alter what is trained. Try: auth, or set $AllowKey to true as well")
      case other => throw new ConfigException(s"$Key is '$other': it must be auto, auth, encrypt or off")
    }
  }
}
