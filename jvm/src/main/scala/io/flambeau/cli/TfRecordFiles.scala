// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import org.apache.hadoop.fs.{FileSystem, Path}
import org.apache.spark.TaskContext
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{ArrowBatcher, ArrowSchema}
import org.apache.spark.sql.types.StructType
import org.apache.spark.util.SerializableConfiguration
import org.json4s.JsonDSL._

import io.flambeau.jni.{NativeLibrary, Session}

/**
 * Writes rows as `tf.train.Example` TFRecords: one file `part-r-NNNNN` for each partition, which
 * appears when it is whole, and `_SUCCESS` when all are.
 */
private[cli] object TfRecordFiles {

  def save(rows: RDD[InternalRow], schema: StructType, directory: String): Unit = {
    val conf = new SerializableConfiguration(rows.sparkContext.hadoopConfiguration)
    val root = new Path(directory)
    rows.foreachPartition { partition =>
      val task = TaskContext.get()
      val target = new Path(root, f"part-r-${task.partitionId()}%05d")
      val temporary = new Path(root, s".${target.getName}.${task.taskAttemptId()}")
      val files = root.getFileSystem(conf.value)
      try {
        write(partition, schema, files, temporary)
        files.rename(temporary, target)
      } finally files.delete(temporary, false)
    }
    root.getFileSystem(conf.value).create(new Path(root, "_SUCCESS")).close()
  }

  private def write(rows: Iterator[InternalRow], schema: StructType, files: FileSystem, path: Path): Unit = {
    NativeLibrary.load()
    val config = ("kind" -> "encode") ~ ("columns" -> schema.fieldNames.toList)
    val session = Session.open(config, ArrowSchema.message(schema), null, null)
    val batcher = new ArrowBatcher(schema)
    val out = files.create(path, true)
    try {
      while (rows.hasNext) {
        while (rows.hasNext && !batcher.isFull) batcher.add(rows.next())
        out.write(batcher.lend(session.transform))
      }
    } finally {
      out.close()
      batcher.close()
      session.close()
    }
  }
}
