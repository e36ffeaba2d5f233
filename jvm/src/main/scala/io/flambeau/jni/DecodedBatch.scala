// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.apache.spark.sql.flambeau.ArrowBatch

/**
 * What a session has decoded: a batch of records in native memory, or the end.
 *
 * @param skipped damaged records that were left out so far
 * @param batch addresses that are valid until `release`
 */
final class DecodedBatch private (id: Long, val skipped: Long, val batch: ArrowBatch) {

  /** Whether there are no more records, and no batch. */
  def isEnd: Boolean = id == 0

  /** Gives the memory back; from any thread, and again is harmless. */
  def release(): Unit = Native.release(id)
}

private[jni] object DecodedBatch {
  private val Header = 4

  /** @param answer of [[Native.decode]]: id, rows, skipped and number of nodes, then nodes and buffers */
  def of(answer: Array[Long]): DecodedBatch = {
    val (header, pairs) = answer.splitAt(Header)
    val (nodes, buffers) = pairs.splitAt(2 * header(3).toInt)
    new DecodedBatch(header(0), header(2), ArrowBatch(header(1).toInt, nodes, buffers))
  }
}
