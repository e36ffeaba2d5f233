// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import java.io.FileNotFoundException

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path
import org.apache.spark.SparkContext
import org.apache.spark.sql.flambeau.ArrowSchema
import org.apache.spark.sql.types.StructType
import org.apache.spark.util.SerializableConfiguration
import org.json4s.{DefaultFormats, Formats, JInt, JNull, JValue}
import org.json4s.JsonDSL._
import org.slf4j.LoggerFactory

import io.flambeau.DataException
import io.flambeau.jni.{NativeLibrary, Session}

/** Finds the columns of TFRecord files by reading their records, in one Spark job over the files. */
object SchemaInference {
  private val MaxTasks = 1000
  private val log = LoggerFactory.getLogger(getClass.getName.stripSuffix("$"))

  private implicit val formats: Formats = DefaultFormats

  /**
   * None if there are no files.
   *
   * @throws DataException if no file has a record, or a feature differs between records or files
   */
  def of(paths: Seq[Path], options: TfRecordOptions, sc: SparkContext, conf: Configuration): Option[StructType] =
    if (paths.isEmpty) None
    else if (options.recordType == RecordType.ByteArray) Some(TfRecordSchema.OfByteArrays)
    else Some(TfRecordSchema.of(features(paths, options, sc, conf), options.binaryFeatures))

  private def features(
      paths: Seq[Path], options: TfRecordOptions, sc: SparkContext, conf: Configuration): Seq[Feature] = {
    val hadoop = new SerializableConfiguration(conf)
    val found = sc
      .parallelize(paths.map(_.toString), paths.size.min(MaxTasks))
      .map(path => look(new Path(path), options, hadoop.value))
      .collect()
      .toSeq
      .map(_.fold(throw _, identity))
    if (found.forall(_.records == 0)) {
      throw new DataException(
        s"${paths.head}${if (paths.size > 1) s" and ${paths.size - 1} more files" else ""} " +
          "cannot tell a schema: no records. Try: give a schema")
    }
    found.flatMap(_.features)
  }

  /** @param features of a file's first `records` records */
  private final case class Found(records: Long, features: Seq[Feature])

  /** What `path` has; a failure that a retry would meet again is a result, as Spark only quotes exceptions. */
  private def look(path: Path, options: TfRecordOptions, conf: Configuration): Either[DataException, Found] =
    try {
      NativeLibrary.load()
      val session = Session.open(config(path, options), ArrowSchema.message(new StructType()), null, null)
      try {
        val bytes = PlainBytes.open(path, options.compressionOf(path), 0, conf)
        try bytes.decode(session)
        finally bytes.close()
        Right(foundIn(path, session.poll(0).get))
      } finally session.close()
    } catch {
      case missing: FileNotFoundException if options.ignoreMissingFiles => unseen(path, missing)
      case damaged: DataException if options.ignoreCorruptFiles => unseen(path, damaged)
      case damaged: DataException => Left(damaged)
    }

  /** Nothing, where the user lets Spark read on without such a file. */
  private def unseen(path: Path, error: Exception): Either[DataException, Found] = {
    log.warn(s"$path is left out of the schema: ${error.getMessage}")
    Right(Found(0, Nil))
  }

  private def config(path: Path, options: TfRecordOptions) =
    ("kind" -> "infer") ~
      ("path" -> path.toString) ~
      ("record_type" -> options.recordType.nativeName) ~
      ("permissive" -> options.permissive) ~
      ("max_records" -> options.sampleRecords.fold[JValue](JNull)(JInt(_)))

  private def foundIn(path: Path, summary: JValue): Found =
    Found(
      (summary \ "records").extract[Long],
      (summary \ "features").children.map { feature =>
        Feature(
          (feature \ "name").extract[String],
          (feature \ "in_list").extract[Boolean],
          (feature \ "kind").extractOpt[String],
          (feature \ "utf8").extract[Boolean],
          (feature \ "max_values").extract[Long],
          path.toString)
      })
}
