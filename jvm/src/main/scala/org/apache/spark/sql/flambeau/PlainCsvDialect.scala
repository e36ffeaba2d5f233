// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.nio.charset.StandardCharsets.UTF_8
import java.util.Locale

import org.apache.spark.sql.catalyst.csv.CSVOptions
import org.apache.spark.sql.execution.datasources.FileFormat

/**
 * Which characters of plain lines stand for themselves. Those that do not exist are 0, which no plain
 * line contains.
 *
 * @param delimiter between fields
 * @param comment that a line which is no row begins with
 * @param nullValue text that is null instead of itself
 */
private[flambeau] final class PlainCsvDialect(
    val delimiter: Byte,
    val quote: Byte,
    val escape: Byte,
    val comment: Byte,
    val nullValue: Array[Byte])
    extends Serializable

private[flambeau] object PlainCsvDialect {

  /** @return none where `options` give plain lines another meaning, or are not known here */
  def of(options: Map[String, String], parsed: CSVOptions): Option[PlainCsvDialect] = {
    val marks = Seq(parsed.quote, parsed.escape, parsed.comment)
    val isPlain =
      options.keys.forall(key => Harmless.contains(key.toLowerCase(Locale.ROOT))) &&
        !parsed.multiLine &&
        parsed.charset.equalsIgnoreCase(UTF_8.name) &&
        parsed.maxCharsPerColumn == Unlimited &&
        parsed.delimiter.length == 1 && isDelimiter(parsed.delimiter.head) &&
        marks.forall(mark => isMark(mark) && mark != parsed.delimiter.head) &&
        !Seq(parsed.nullValue, parsed.nanValue, parsed.positiveInf, parsed.negativeInf).exists(isValue)
    Option.when(isPlain) {
      new PlainCsvDialect(
        parsed.delimiter.head.toByte,
        parsed.quote.toByte,
        parsed.escape.toByte,
        parsed.comment.toByte,
        parsed.nullValue.getBytes(UTF_8))
    }
  }

  /** Of `maxCharsPerColumn`. */
  private val Unlimited = -1

  private def isDelimiter(char: Char): Boolean = char == '\t' || (char > ' ' && isMark(char))

  /** Whether no number and no truth value has `char` in it. */
  private def isMark(char: Char): Boolean =
    char < 0x7f && !char.isLetterOrDigit && char != '+' && char != '-' && char != '.'

  /** Whether `text` may be a plain number or truth value. */
  private def isValue(text: String): Boolean = text.nonEmpty &&
    (text.forall("0123456789+-.eE".contains(_)) || Seq("true", "false").contains(text.toLowerCase(Locale.ROOT)))

  /**
   * Options that change nothing about a plain line, or are looked at: those of CSV, of files and of
   * streams of files, and what Spark's plan adds. Newer ones of Spark are for Spark.
   */
  private val Harmless = Set(
    "header", "enforceSchema", "inferSchema", "samplingRatio", "preferDate", "mode",
    "columnNameOfCorruptRecord", "columnPruning", "multiLine", "encoding", "charset", "locale",
    "sep", "delimiter", "quote", "escape", "charToEscapeQuoteEscaping", "unescapedQuoteHandling",
    "comment", "ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace", "nullValue", "emptyValue",
    "nanValue", "positiveInf", "negativeInf", "maxColumns", "maxCharsPerColumn", "inputBufferSize",
    "dateFormat", "timeFormat", "timestampFormat", "timestampNTZFormat", "timeZone",
    "enableDateTimeParsingFallback", "quoteAll", "escapeQuotes", "compression", "codec",
    "path", "paths", "basePath", "pathGlobFilter", "recursiveFileLookup", "modifiedBefore",
    "modifiedAfter", "ignoreCorruptFiles", "ignoreMissingFiles", "serialization.format",
    "maxFilesPerTrigger", "maxBytesPerTrigger", "maxFileAge", "latestFirst", "fileNameOnly",
    "cleanSource", "sourceArchiveDir", FileFormat.OPTION_RETURNING_BATCH, PlainCsvFormat.Mark
  ).map(_.toLowerCase(Locale.ROOT))
}
