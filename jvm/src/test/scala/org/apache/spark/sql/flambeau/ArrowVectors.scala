// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._

import org.apache.arrow.memory.BufferAllocator
import org.apache.arrow.vector.{ValueVector, VectorLoader, VectorSchemaRoot}
import org.apache.arrow.vector.ipc.message.{ArrowFieldNode, ArrowRecordBatch}
import org.apache.spark.sql.types.StructType
import org.apache.spark.unsafe.Platform

/** Batches as vectors of Arrow itself. */
object ArrowVectors {

  /** Lends the vectors of a copy of `batch`. */
  def lend(batch: ArrowBatch, schema: StructType, allocator: BufferAllocator)(use: Seq[ValueVector] => Unit): Unit = {
    val nodes = batch.nodes.grouped(2).map(node => new ArrowFieldNode(node(0), node(1))).toSeq
    val buffers = batch.buffers.grouped(2).map { span =>
      val copy = allocator.buffer(span(1))
      Platform.copyMemory(null, span(0), null, copy.memoryAddress, span(1))
      copy.writerIndex(span(1))
    }.toSeq
    val record = new ArrowRecordBatch(batch.rows, nodes.asJava, buffers.asJava)
    buffers.foreach(_.close())
    val root = VectorSchemaRoot.create(ArrowSchema.of(schema), allocator)
    try {
      new VectorLoader(root).load(record)
      use(root.getFieldVectors.asScala.toSeq)
    } finally {
      record.close()
      root.close()
    }
  }
}
