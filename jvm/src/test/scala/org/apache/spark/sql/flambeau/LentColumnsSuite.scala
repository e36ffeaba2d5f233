// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._
import scala.util.Random

import org.apache.spark.sql.Row
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.encoders.ExpressionEncoder
import org.apache.spark.sql.catalyst.expressions.{UnsafeArrayData, UnsafeProjection}
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnarBatch
import org.apache.spark.unsafe.types.UTF8String
import org.scalatest.funsuite.AnyFunSuite

class LentColumnsSuite extends AnyFunSuite {
  private val schema = new StructType().add("id", LongType).add("text", StringType).add("list", ArrayType(FloatType))

  /** Memory that is not the lent's, filled by the batcher. */
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
    var released = 0
    withBatch(full, empty) { batch =>
      val lent = new LentColumns(schema)
      val vectors = lent.load(batch)(() => released += 1)
      assert(vectors(0).getLong(0) == 7 && vectors(1).getUTF8String(0).toString == "seven")
      assert(vectors(2).getArray(0).toFloatArray.toSeq == Seq(0.5f, 1f) && vectors.forall(_.isNullAt(1)))
      assert(released == 0)
      vectors.foreach(_.close())
      assert(released == 1)
      lent.close()
    }
    assert(released == 1)
  }

  test("the next batch, and the end, close the last one") {
    var released = Seq.empty[String]
    withBatch(full)(first => withBatch(empty) { second =>
      val lent = new LentColumns(schema)
      lent.load(first)(() => released :+= "first")
      assert(lent.load(second)(() => released :+= "second").head.isNullAt(0))
      assert(released == Seq("first"))
      lent.close()
      assert(released == Seq("first", "second"))
    })
  }

  test("a batch without columns has no memory to wait for") {
    var released = 0
    val lent = new LentColumns(new StructType())
    assert(lent.load(ArrowBatch(5, Array.empty, Array.empty))(() => released += 1).isEmpty && released == 1)
    lent.close()
  }

  private val types = {
    val scalars =
      Seq(BooleanType, ByteType, ShortType, IntegerType, LongType, FloatType, DoubleType, BinaryType, StringType)
    scalars ++ scalars.map(ArrayType(_)) ++ scalars.map(kind => ArrayType(ArrayType(kind)))
  }

  private def value(kind: DataType, random: Random): Any = kind match {
    case BooleanType => random.nextBoolean()
    case ByteType => random.nextInt().toByte
    case ShortType => random.nextInt().toShort
    case IntegerType => random.nextInt()
    case LongType => random.nextLong()
    case FloatType => random.nextFloat()
    case DoubleType => random.nextGaussian()
    case BinaryType => random.nextBytes(random.nextInt(20))
    case StringType => "é" * random.nextInt(9)
    case list =>
      val element = list.asInstanceOf[ArrayType].elementType
      Seq.fill(random.nextInt(9))(if (random.nextInt(9) > 0) value(element, random) else null)
  }

  test("rows of every type are those that went in, one by one and as arrays") {
    val schema = StructType(types.zipWithIndex.map { case (kind, at) => StructField(s"c$at", kind) })
    val (serialize, random) = (ExpressionEncoder(schema).createSerializer(), new Random(7))
    val rows = Seq.fill(200) {
      val values = schema.map(field => if (random.nextInt(9) > 0) value(field.dataType, random) else null)
      serialize(Row.fromSeq(values)).copy()
    }
    val (batcher, lent) = (new ArrowBatcher(schema), new LentColumns(schema))
    rows.foreach(batcher.add)
    batcher.lend { batch =>
      val shown = new ColumnarBatch(lent.load(batch)(() => ()), batch.rows)
      val project = UnsafeProjection.create(schema)
      shown.rowIterator().asScala.zip(rows).foreach { case (found, expected) =>
        assert(project(found) == expected)
        assert(project(found.copy()) == expected)
      }
    }
    lent.close()
    batcher.close()
  }
}
