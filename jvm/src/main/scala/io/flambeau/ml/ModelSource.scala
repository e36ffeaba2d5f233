// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.io.{ByteArrayInputStream, IOException}
import java.nio.charset.StandardCharsets.UTF_8
import java.util.Base64
import java.util.zip.ZipInputStream

import scala.util.Using

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path
import org.json4s.{JDouble, JField, JNothing, JNull, JObject, JString, JValue}
import org.json4s.jackson.JsonMethods.parse

import io.flambeau.ConfigException

/** Where a Keras model's bytes come from, and the little that Spark's side reads of them. */
private[ml] object ModelSource {

  /** Before the base64 of a file that travels as text. */
  private val DataUri = "data:application/octet-stream;base64,"

  /**
   * `text` is Keras JSON, or what [[dataUri]] gave, or else the path of a file that holds JSON or a
   * .keras archive.
   */
  def read(text: String, conf: Configuration): Array[Byte] =
    if (text.trim.startsWith("{")) text.getBytes(UTF_8)
    else if (text.startsWith(DataUri)) decode(text.drop(DataUri.length))
    else readFile(text, conf)

  /** A file as text. */
  def dataUri(file: Array[Byte]): String = DataUri + Base64.getEncoder.encodeToString(file)

  /**
   * @param what the file is, for errors
   * @throws ConfigException if the file cannot be read
   */
  def readFile(location: String, conf: Configuration, what: String = "the model"): Array[Byte] =
    try {
      val path = new Path(location)
      Using.resource(path.getFileSystem(conf).open(path))(_.readAllBytes())
    } catch {
      case error @ (_: IOException | _: IllegalArgumentException) =>
        throw new ConfigException(s"$what $location cannot be read: ${error.getMessage}", error)
    }

  def decode(base64: String): Array[Byte] =
    try Base64.getDecoder.decode(base64)
    catch {
      case error: IllegalArgumentException =>
        throw new ConfigException(s"the model is not base64: ${error.getMessage}", error)
    }

  /** The config in a .keras archive. */
  def config(archive: Array[Byte]): Option[JValue] =
    Using.resource(new ZipInputStream(new ByteArrayInputStream(archive))) { zip =>
      Iterator.continually(zip.getNextEntry).takeWhile(_ != null).find(_.getName == "config.json").map { _ =>
        parse(new String(zip.readAllBytes(), UTF_8))
      }
    }

  /** The loss that a config was compiled with, as a name or a config. */
  def compiledLoss(config: JValue): Option[JValue] = config \ "compile_config" \ "loss" match {
    case JNothing | JNull => None
    case loss => Some(loss)
  }

  /** A Keras spec as users write it: JSON of a config, a list or a dictionary, or a name. */
  def spec(text: String): JValue =
    if (text.trim.startsWith("{") || text.trim.startsWith("[")) parse(text) else JString(text)

  /** `optimizer` with another learning rate, also in place of a schedule; of a wrapped one that within. */
  def withLearningRate(optimizer: JValue, rate: Double): JValue = {
    def having(config: JValue): JObject = config \ "inner_optimizer" match {
      case inner: JObject => merged(config, "inner_optimizer" -> withLearningRate(inner, rate))
      case _ => merged(config, "learning_rate" -> JDouble(rate))
    }
    optimizer match {
      case JString(name) => JObject("class_name" -> JString(name), "config" -> having(JNothing))
      case spec => merged(spec, "config" -> having(spec \ "config"))
    }
  }

  private def merged(config: JValue, field: JField): JObject = config match {
    case JObject(fields) => JObject(fields.filterNot(_._1 == field._1) :+ field)
    case _ => JObject(field)
  }

  /** Whether the text is a dictionary by output rather than one object of Keras. */
  def isMapping(text: String): Boolean =
    text.trim.startsWith("{") && (parse(text) \ "class_name") == JNothing

  /** @throws ConfigException if the text is no JSON */
  def json(param: String, text: String): JValue =
    try parse(text)
    catch {
      case error: RuntimeException => throw new ConfigException(s"$param is no JSON: $text", error)
    }
}
