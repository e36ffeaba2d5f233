// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.UnsafeArrayData
import org.apache.spark.sql.types._
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.unsafe.types.UTF8String
import org.scalatest.funsuite.AnyFunSuite

class ArrowLoaderSuite extends AnyFunSuite {
  private val schema = new StructType().add("id", LongType).add("text", StringType).add("list", ArrayType(FloatType))

  /** Memory that is not the loader's, filled by the batcher. */
  private def withBatch[T](rows: InternalRow*)(use: ArrowBatch => T): T = {
    val batcher = new ArrowBatcher(schema)
    try {
      rows.foreach(batcher.add)
      batcher.lend(use)
    } finally batcher.close()
  }

  private val full =
    InternalRow(7L, UTF8String.fromString("seven"), UnsafeArrayData.fromPrimitiveArray(Array(0.5f, 1f)))
  private val empty = InternalRow(null, null, null)

  test("vectors show the memory of the batch, and give it back once") {
    val before = ArrowUtils.rootAllocator.getAllocatedMemory
    var released = 0
    withBatch(full, empty) { batch =>
      val loader = new ArrowLoader(schema)
      val vectors = loader.load(batch)(() => released += 1)
      assert(vectors(0).getLong(0) == 7 && vectors(1).getUTF8String(0).toString == "seven")
      assert(vectors(2).getArray(0).toFloatArray.toSeq == Seq(0.5f, 1f) && vectors.forall(_.isNullAt(1)))
      assert(released == 0)
      vectors.foreach(_.close())
      assert(released == 1)
      loader.close()
    }
    assert(released == 1 && ArrowUtils.rootAllocator.getAllocatedMemory == before)
  }

  test("the next batch, and the end, close the last one") {
    var released = Seq.empty[String]
    withBatch(full)(first => withBatch(empty) { second =>
      val loader = new ArrowLoader(schema)
      loader.load(first)(() => released :+= "first")
      assert(loader.load(second)(() => released :+= "second").head.isNullAt(0))
      assert(released == Seq("first"))
      loader.close()
      assert(released == Seq("first", "second"))
    })
  }

  test("a batch without columns has no memory to wait for") {
    var released = 0
    val loader = new ArrowLoader(new StructType())
    assert(loader.load(ArrowBatch(5, Array.empty, Array.empty))(() => released += 1).isEmpty && released == 1)
    loader.close()
  }
}
