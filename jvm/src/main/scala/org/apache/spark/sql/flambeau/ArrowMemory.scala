// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.spark.unsafe.Platform

/** A buffer of an Arrow column while it is filled: memory outside the heap, which grows. */
private[flambeau] final class ArrowMemory(allocator: BufferAllocator) extends AutoCloseable {
  private var memory: ArrowBuf = allocator.getEmpty
  private var start = 0L
  private var capacity = 0L
  private var filled = 0L

  /** Bytes filled. */
  def length: Long = filled

  /** Of the first byte, until more is appended. */
  def address: Long = start

  /** Makes room for `bytes` more, which count as filled; the address of the first. */
  def append(bytes: Long): Long = {
    val at = filled
    if (at + bytes > capacity) grow(at + bytes)
    filled = at + bytes
    start + at
  }

  def clear(): Unit = filled = 0

  override def close(): Unit = {
    memory.close()
    memory = allocator.getEmpty
    start = 0
    capacity = 0
    filled = 0
  }

  private def grow(needed: Long): Unit = {
    val larger = allocator.buffer(needed.max(2 * capacity).max(ArrowMemory.LeastBytes))
    Platform.copyMemory(null, start, null, larger.memoryAddress, filled)
    memory.close()
    memory = larger
    start = larger.memoryAddress
    capacity = larger.capacity
  }
}

private object ArrowMemory {
  val LeastBytes = 256L
}

/**
 * Bits of an Arrow column, the lowest of each byte first, most of which are alike: those cost
 * nothing to append.
 *
 * @param background what most of them are
 */
private[flambeau] final class ArrowBits(allocator: BufferAllocator, background: Boolean) extends AutoCloseable {
  private val memory = new ArrowMemory(allocator)
  private val byte: Byte = if (background) -1 else 0
  private var bits = 0L
  private var others = 0L

  /** How many differ from the background. */
  def exceptions: Long = others

  def append(count: Long): Unit = bits += count

  def appendException(): Unit = {
    val (byteAt, bit) = (bits / 8, (bits % 8).toInt)
    bits += 1
    others += 1
    fill()
    val at = memory.address + byteAt
    Platform.putByte(null, at, (Platform.getByte(null, at) ^ (1 << bit)).toByte)
  }

  /** The memory, which now has all bits. */
  def filled(): ArrowMemory = {
    fill()
    memory
  }

  def clear(): Unit = {
    memory.clear()
    bits = 0
    others = 0
  }

  override def close(): Unit = memory.close()

  private def fill(): Unit = {
    val missing = (bits + 7) / 8 - memory.length
    if (missing > 0) Platform.setMemory(memory.append(missing), byte, missing)
  }
}
