// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.catalyst.FileSourceOptions
import org.apache.spark.sql.catalyst.util.CaseInsensitiveMap

import io.flambeau.ConfigException

/**
 * The options of the data source `tfrecord`, by names of any case; those of all file sources are
 * Spark's own.
 *
 * @throws ConfigException naming the option and what it may be
 */
final class TfRecordOptions(@transient private val values: CaseInsensitiveMap[String])
    extends FileSourceOptions(values) {
  import TfRecordOptions._

  def this(values: Map[String, String]) = this(CaseInsensitiveMap(values))

  val recordType: RecordType = choice("recordType", RecordType.All)(_.name).getOrElse(RecordType.Example)

  /** Whether damaged records are left out, rather than ending the job. */
  val permissive: Boolean = choice("mode", Seq(FailFast, Permissive))(identity).contains(Permissive)

  /** Features of bytes that inference leaves binary, even if they are UTF-8. */
  val binaryFeatures: Set[String] =
    values.get("binaryFeatures").toSeq.flatMap(_.split(',')).map(_.trim).filter(_.nonEmpty).toSet

  /** How many records of each file inference looks at; all if absent. */
  val sampleRecords: Option[Long] = values.get("sampleRecords").map { text =>
    text.toLongOption.filter(_ > 0).getOrElse(refuse("sampleRecords", "a whole number of at least 1", text))
  }

  private val compression: Option[Compression] = choice("compression", Compression.All)(_.name)

  private val splitFiles: Boolean = choice("splitFiles", Seq(true, false))(_.toString).getOrElse(true)

  /** How `path`, a file to read, is compressed: as the option says, else its name. */
  def compressionOf(path: Path): Compression = compression.getOrElse(Compression.of(path))

  /** Of files to write. */
  def writtenCompression: Compression = compression.getOrElse(Compression.Plain)

  /** Whether several tasks may read `path`: each looks for a record's border, and needs to trust the next. */
  def isSplitable(path: Path): Boolean = splitFiles && !permissive && compressionOf(path) == Compression.Plain

  private def choice[T](option: String, choices: Seq[T])(name: T => String): Option[T] =
    values.get(option).map { text =>
      def names = choices.map(name)
      choices
        .find(name(_).equalsIgnoreCase(text.trim))
        .getOrElse(refuse(option, s"${names.init.mkString(", ")} or ${names.last}", text))
    }
}

object TfRecordOptions {
  private val FailFast = "FAILFAST"
  private val Permissive = "PERMISSIVE"

  private def refuse(option: String, accepted: String, text: String): Nothing =
    throw new ConfigException(s"tfrecord: option $option must be $accepted, not '$text'")
}
