// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._
import scala.util.Random

import org.apache.arrow.memory.util.MemoryUtil
import org.apache.arrow.vector.{ValueVector, VectorSchemaRoot}
import org.apache.arrow.vector.compare.VectorEqualsVisitor
import org.apache.arrow.vector.complex.ListVector
import org.apache.spark.ml.linalg.{SQLDataTypes, Vectors}
import org.apache.spark.sql.Row
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.encoders.ExpressionEncoder
import org.apache.spark.sql.catalyst.util.GenericArrayData
import org.apache.spark.sql.execution.arrow.ArrowWriter
import org.apache.spark.sql.types._
import org.apache.spark.sql.util.ArrowUtils
import org.scalatest.funsuite.AnyFunSuite

/** What crosses to native code is what Spark's own `ArrowWriter` makes of the same rows. */
class ColumnWriterSuite extends AnyFunSuite {
  private val scalars =
    Seq(BooleanType, ByteType, ShortType, IntegerType, LongType, FloatType, DoubleType, BinaryType, StringType)

  private val types: Seq[DataType] =
    scalars ++ scalars.map(ArrayType(_)) ++ scalars.map(kind => ArrayType(ArrayType(kind))) :+ SQLDataTypes.VectorType

  private def value(kind: DataType, nulls: Double, random: Random): Any =
    if (random.nextDouble() < nulls) null
    else kind match {
      case BooleanType => random.nextBoolean()
      case ByteType => random.nextInt().toByte
      case ShortType => random.nextInt().toShort
      case IntegerType => random.nextInt()
      case LongType => random.nextLong()
      case FloatType => random.nextFloat()
      case DoubleType => random.nextGaussian()
      case BinaryType => random.nextBytes(random.nextInt(20))
      case StringType => "x" * random.nextInt(3) + "é€" * random.nextInt(5)
      case ArrayType(element, _) => Seq.fill(random.nextInt(70).min(random.nextInt(70)))(value(element, nulls, random))
      case _ if random.nextBoolean() => Vectors.dense(Array.fill(random.nextInt(5))(random.nextDouble()))
      case _ => Vectors.sparse(9, Seq(2 -> random.nextDouble(), 7 -> 1.5).take(random.nextInt(3)))
    }

  private def rows(schema: StructType, number: Int, nulls: Double, random: Random): Seq[InternalRow] = {
    val serialize = ExpressionEncoder(schema).createSerializer()
    Seq.fill(number)(serialize(Row.fromSeq(schema.map(field => value(field.dataType, nulls, random)))).copy())
  }

  /** The vectors of Spark's writer, and ours, of a batch after another one. */
  private def withBoth(schema: StructType, rows: Seq[InternalRow])(use: (ValueVector, ValueVector) => Unit): Unit = {
    val allocator = ArrowUtils.rootAllocator.newChildAllocator("expected", 0, Long.MaxValue)
    val root = VectorSchemaRoot.create(ArrowSchema.of(schema), allocator)
    val writer = ArrowWriter.create(root)
    val batcher = new ArrowBatcher(schema)
    try {
      rows.reverse.foreach(batcher.add)
      if (rows.nonEmpty) batcher.lend(_ => ())
      rows.foreach { row =>
        writer.write(row)
        batcher.add(row)
      }
      writer.finish()
      batcher.lend { batch =>
        ArrowVectors.lend(batch, schema, allocator) { ours =>
          root.getFieldVectors.asScala.zip(ours).foreach { case (expected, found) => use(expected, found) }
        }
      }
    } finally {
      batcher.close()
      root.close()
      allocator.close()
    }
  }

  test("every type, with and without nulls, is as Spark's writer has it") {
    val schema = StructType(types.zipWithIndex.map { case (kind, at) => StructField(s"c$at", kind) })
    for ((nulls, seed) <- Seq(0.0, 0.02, 0.5, 1.0).zipWithIndex; number <- Seq(1, 7, 64, 300)) {
      val random = new Random(seed * 1000 + number)
      withBoth(schema, rows(schema, number, nulls, random)) { (expected, found) =>
        assert(expected.getValueCount == number && found.getValueCount == number)
        assert(expected.getNullCount == found.getNullCount)
        assert(VectorEqualsVisitor.vectorEquals(expected, found), s"${expected.getField}: nulls $nulls, $number rows")
      }
    }
  }

  test("rows that are not in Spark's binary form are the same") {
    val schema = new StructType().add("n", IntegerType).add("s", StringType).add("list", ArrayType(DoubleType))
    val binary = rows(schema, 40, 0.2, new Random(3))
    val generic = binary.map(row => InternalRow.fromSeq(row.toSeq(schema)))
    withBoth(schema, generic)((expected, found) => assert(VectorEqualsVisitor.vectorEquals(expected, found)))
  }

  private def stacked(schema: StructType, rows: Seq[InternalRow])(use: ArrowBatch => Unit): Unit = {
    val batcher = new ArrowBatcher(StackedColumns.allow(schema))
    try {
      rows.foreach(batcher.add)
      batcher.lend(use)
    } finally batcher.close()
  }

  test("numbers of one type side by side are one list in each row") {
    val schema = new StructType()
      .add("a", IntegerType).add("b", IntegerType).add("c", DoubleType).add("d", ByteType).add("e", ByteType)
    val parts = StackedColumns.parts(StackedColumns.allow(schema)).map(_.map(_.name))
    assert(parts == Seq(Seq("a", "b"), Seq("c"), Seq("d", "e")))
    assert(StackedColumns.parts(schema).forall(_.length == 1))
    stacked(schema, Seq(InternalRow(1, 2, 0.5, 3.toByte, 4.toByte), InternalRow(null, 5, null, 6.toByte, 7.toByte))) {
      batch =>
        // Of a stack a list without nulls and its elements; of the double itself.
        assert(batch.nodes.toSeq == Seq(2L, 0L, 4L, 1L, 2L, 1L, 2L, 0L, 4L, 0L))
        val buffers = batch.buffers.grouped(2).toSeq
        assert(buffers.map(_(1)) == Seq(0L, 1L, 16L, 1L, 16L, 0L, 0L, 4L))
        assert(MemoryUtil.getByte(buffers(1)(0)) == 0xfb.toByte)
        assert((0 until 4).map(at => MemoryUtil.getInt(buffers(2)(0) + 4 * at)) == Seq(1, 2, 0, 5))
        assert((0 until 4).map(at => MemoryUtil.getByte(buffers(7)(0) + at)) == Seq(3, 4, 6, 7))
    }
  }

  test("a stack of any width of number has the values of its columns") {
    for (kind <- Seq(ByteType, ShortType, IntegerType, LongType, FloatType, DoubleType); nulls <- Seq(0.0, 0.1)) {
      val schema = StructType((0 until 130).map(at => StructField(s"c$at", kind)))
      val data = rows(schema, 20, nulls, new Random(5))
      val flat = new StructType().add("all", ArrayType(kind))
      val lists = data.map(row => InternalRow(new GenericArrayData(row.toSeq(schema))))
      stacked(schema, data) { batch =>
        val (bitmap, values) = (batch.buffers.slice(2, 4), batch.buffers.slice(4, 6))
        assert(batch.nodes.toSeq.take(3) == Seq(20L, 0L, 20L * 130) && values(1) == 20L * 130 * kind.defaultSize)
        withBoth(flat, lists) { (_, expected) =>
          val elements = expected.asInstanceOf[ListVector].getDataVector
          assert(batch.nodes(3) == elements.getNullCount)
          def bytes(at: Long, length: Long) = (0L until length).map(byte => MemoryUtil.getByte(at + byte))
          assert(bytes(values(0), values(1)) == bytes(elements.getDataBuffer.memoryAddress, values(1)))
          if (nulls > 0) assert(bytes(bitmap(0), bitmap(1)) == bytes(elements.getValidityBuffer.memoryAddress, bitmap(1)))
        }
      }
    }
  }
}
