// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.arrow.memory.util.MemoryUtil
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.UnsafeArrayData
import org.apache.spark.sql.types._
import org.apache.spark.sql.util.ArrowUtils
import org.scalatest.funsuite.AnyFunSuite

class ArrowBatcherSuite extends AnyFunSuite {
  private val schema = new StructType().add("label", LongType).add("image", ArrayType(FloatType))

  private def row(label: Long, width: Int): InternalRow =
    InternalRow(label, UnsafeArrayData.fromPrimitiveArray(Array.fill(width)(label.toFloat)))

  private def fill(batcher: ArrowBatcher, width: Int): Unit =
    Iterator.from(0).takeWhile(_ => !batcher.isFull).foreach(index => batcher.add(row(index, width)))

  test("a batch tells length, nulls and the addresses of its values") {
    val batcher = new ArrowBatcher(schema)
    try {
      batcher.add(row(7, 3))
      batcher.add(InternalRow(null, null))
      batcher.lend { batch =>
        assert(batch.rows == 2)
        assert(batch.nodes.toSeq == Seq(2L, 1L, 2L, 1L, 3L, 0L))
        val labels = batch.buffers(2)
        assert(MemoryUtil.getLong(labels) == 7L)
        assert(batch.buffers.length == 2 * (2 + 2 + 2))
      }
      assert(batcher.isEmpty)
    } finally batcher.close()
  }

  test("a batch ends with the row that fills half a MiB, at 1024 rows at the latest") {
    for ((width, expected) <- Seq(1 -> 1024, 10000 -> 13, 2000000 -> 1)) {
      val batcher = new ArrowBatcher(schema)
      try {
        for (_ <- 1 to 2) {
          fill(batcher, width)
          assert(batcher.lend(_.rows) == expected)
        }
      } finally batcher.close()
    }
  }

  test("decimals of both of Spark's layouts are 128 bits, the sign in all of the upper ones") {
    val columns = new StructType().add("small", DecimalType(10, 2)).add("large", DecimalType(38, 18))
    val values = Seq(BigDecimal("-0.01"), BigDecimal("12345678901234567890.5"), BigDecimal("-12345678901234567890.5"))
    val batcher = new ArrowBatcher(columns)
    try {
      for (value <- values) batcher.add(InternalRow(Decimal(BigDecimal("-0.01"), 10, 2), Decimal(value, 38, 18)))
      batcher.add(InternalRow(null, null))
      batcher.lend { batch =>
        def unscaled(buffer: Int, row: Int): BigInt = {
          val at = batch.buffers(2 * buffer) + row * 16L
          (BigInt(MemoryUtil.getLong(at + 8)) << 64) + BigInt(java.lang.Long.toUnsignedString(MemoryUtil.getLong(at)))
        }
        assert(batch.nodes.toSeq == Seq(4L, 1L, 4L, 1L))
        assert(unscaled(1, 0) == -1)
        for ((value, row) <- values.zipWithIndex) assert(unscaled(3, row) == (value * BigDecimal(10).pow(18)).toBigInt)
      }
    } finally batcher.close()
  }

  test("all memory is given back, also when the borrower fails") {
    val before = ArrowUtils.rootAllocator.getAllocatedMemory
    val batcher = new ArrowBatcher(schema)
    fill(batcher, 100)
    assertThrows[IllegalStateException](batcher.lend(_ => throw new IllegalStateException("borrower")))
    assert(batcher.isEmpty)
    batcher.close()
    assert(ArrowUtils.rootAllocator.getAllocatedMemory == before)
  }
}
