// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.json4s.{JString, JValue}
import org.json4s.jackson.JsonMethods.parse
import org.slf4j.{Logger, LoggerFactory}

/**
 * Writes what native code logs with Spark's logger. Native threads never call into the JVM, so their
 * lines are taken whenever a session is polled, those of all sessions of the process.
 */
private[jni] object NativeLog {
  private val log: Logger = LoggerFactory.getLogger("io.flambeau.native")

  def take(): Unit =
    Option(Native.takeLog(log.isDebugEnabled)).foreach(lines => parse(lines).children.foreach(write))

  private def write(line: JValue): Unit = {
    val message = s"[${text(line, "thread")}] ${text(line, "message")}"
    text(line, "level") match {
      case "error" => log.error(message)
      case "warn" => log.warn(message)
      case "info" => log.info(message)
      case _ => log.debug(message)
    }
  }

  private def text(line: JValue, field: String): String = line \ field match {
    case JString(text) => text
    case _ => ""
  }
}
