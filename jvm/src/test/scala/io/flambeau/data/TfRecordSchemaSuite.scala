// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import org.apache.spark.sql.types._
import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.DataException

class TfRecordSchemaSuite extends AnyFunSuite {

  private def feature(
      name: String,
      kind: String,
      maxValues: Long = 1,
      inList: Boolean = false,
      utf8: Boolean = true,
      path: String = "/a"): Feature =
    Feature(name, inList, Option(kind), utf8, maxValues, path)

  private def ddl(features: Feature*): String = TfRecordSchema.of(features, Set("image")).toDDL

  test("kinds become types, sorted by name") {
    assert(ddl(feature("c", "int"), feature("a", "float"), feature("b", "bytes")) == "a FLOAT,b STRING,c BIGINT")
  }

  test("bytes are strings if all of them are UTF-8 and nothing else is asked for") {
    assert(ddl(feature("a", "bytes", utf8 = false), feature("image", "bytes")) == "a BINARY,image BINARY")
    assert(ddl(feature("a", "bytes"), feature("a", "bytes", utf8 = false, path = "/b")) == "a BINARY")
  }

  test("several values in any record make an array, lists an array of arrays") {
    assert(ddl(feature("a", "int", 0), feature("a", "int", 3, path = "/b")) == "a ARRAY<BIGINT>")
    assert(ddl(feature("a", "float", 1, inList = true)) == "a ARRAY<ARRAY<FLOAT>>")
  }

  test("a feature without a kind has that of other files, or is a string") {
    assert(ddl(feature("a", null, 0), feature("a", "int", path = "/b"), feature("b", null, 0)) == "a BIGINT,b STRING")
  }

  test("a feature of two kinds or places is refused with both files") {
    def refusal(features: Feature*) = intercept[DataException](ddl(features: _*)).getMessage
    val kinds = refusal(feature("a", null), feature("a", "int", path = "/b"), feature("a", "bytes", path = "/c"))
    assert(kinds.contains("feature 'a' is int in /b, but bytes in /c") && kinds.contains("give a schema"))
    val places = refusal(feature("a", "int"), feature("a", "int", inList = true, path = "/b"))
    assert(places.contains("feature 'a' is a feature in /a, but a feature list in /b"))
  }

  test("columns that the record type cannot hold are refused") {
    val lists = new StructType().add("a", LongType).add("b", ArrayType(ArrayType(LongType)))
    TfRecordSchema.verify(lists, RecordType.SequenceExample)
    assert(intercept[DataException](TfRecordSchema.verify(lists, RecordType.Example)).getMessage.contains("column 'b'"))
    TfRecordSchema.verify(TfRecordSchema.OfByteArrays, RecordType.ByteArray)
    assertThrows[DataException](TfRecordSchema.verify(lists, RecordType.ByteArray))
  }

  test("numbers, strings and bytes are supported, also in arrays and arrays of arrays") {
    val scalars =
      Seq(ByteType, ShortType, IntegerType, LongType, BooleanType, FloatType, DoubleType, StringType, BinaryType)
    assert(scalars.flatMap(t => Seq(t, ArrayType(t), ArrayType(ArrayType(t)))).forall(TfRecordSchema.supports))
    val others =
      Seq(DecimalType(10, 2), DateType, TimestampType, NullType, new StructType(), MapType(StringType, LongType))
    assert(!others.flatMap(t => Seq(t, ArrayType(t))).exists(TfRecordSchema.supports))
    assert(!TfRecordSchema.supports(ArrayType(ArrayType(ArrayType(LongType)))))
  }
}
