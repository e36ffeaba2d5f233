// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{ArrowBatcher, ArrowSchema}
import org.apache.spark.sql.types.StructType
import org.json4s.JsonDSL._

import io.flambeau.jni.{NativeLibrary, Session}

/**
 * Writes rows as the records of one TFRecord file, which is whole once this is closed.
 *
 * @param location of the file, which does not exist yet
 */
final class TfRecordWriter(location: String, columns: StructType, options: TfRecordOptions, conf: Configuration)
    extends AutoCloseable {

  NativeLibrary.load()

  private val session = {
    val config = ("kind" -> "encode") ~
      ("columns" -> columns.fieldNames.toList) ~
      ("record_type" -> options.recordType.nativeName)
    Session.open(config, ArrowSchema.message(columns), null, null)
  }
  private val out = {
    val path = new Path(location)
    options.writtenCompression.compress(path.getFileSystem(conf).create(path, false))
  }
  private val batcher = new ArrowBatcher(columns)

  def write(row: InternalRow): Unit = {
    batcher.add(row)
    if (batcher.isFull) flush()
  }

  override def close(): Unit =
    try if (!batcher.isEmpty) flush()
    finally try out.close()
    finally try batcher.close()
    finally session.close()

  private def flush(): Unit = out.write(batcher.lend(session.transform))
}
