// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.ml.image.ImageSchema
import org.apache.spark.ml.linalg.SQLDataTypes
import org.apache.spark.sql.types._
import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.DataException

class ArrowSchemaSuite extends AnyFunSuite {

  private def arrow(dataType: DataType): String =
    ArrowSchema.of(new StructType().add("c", dataType)).findField("c").toString

  test("scalars keep their width") {
    assert(arrow(ByteType) == "c: Int(8, true)")
    assert(arrow(LongType) == "c: Int(64, true)")
    assert(arrow(FloatType) == "c: FloatingPoint(SINGLE)")
    assert(arrow(BinaryType) == "c: Binary")
    assert(arrow(StringType) == "c: Utf8")
  }

  test("an array is a list of Spark's field 'element'") {
    assert(arrow(ArrayType(IntegerType)) == "c: List<element: Int(32, true)>")
    assert(arrow(ArrayType(BooleanType)) == "c: List<element: Bool>")
    assert(arrow(ArrayType(ArrayType(BinaryType))) == "c: List<element: List<element: Binary>>")
  }

  test("an ML vector is the struct that Spark stores") {
    assert(arrow(SQLDataTypes.VectorType) ==
      "c: Struct<type: Int(8, true), size: Int(32, true), " +
      "indices: List<element: Int(32, true)>, values: List<element: FloatingPoint(DOUBLE)>>")
  }

  test("points in time, decimals and images cross as they are") {
    assert(arrow(DateType) == "c: Date(DAY)")
    assert(arrow(TimestampType) == "c: Timestamp(MICROSECOND, UTC)")
    assert(arrow(TimestampNTZType) == "c: Timestamp(MICROSECOND, null)")
    assert(arrow(DecimalType(10, 2)) == "c: Decimal(10, 2, 128)")
    assert(arrow(ArrayType(DecimalType(38, 0))) == "c: List<element: Decimal(38, 0, 128)>")
    assert(arrow(ImageSchema.columnSchema) ==
      "c: Struct<origin: Utf8, height: Int(32, true), width: Int(32, true), nChannels: Int(32, true), " +
      "mode: Int(32, true), data: Binary>")
  }

  test("a type that native code has no use for is refused with column, type and remedy") {
    val deep = ArrayType(ArrayType(ArrayType(LongType)))
    for (dataType <- Seq(deep, new StructType().add("height", IntegerType), CalendarIntervalType)) {
      val error = intercept[DataException](arrow(dataType))
      assert(error.getMessage.contains("column 'c'") && error.getMessage.contains("Try: cast"))
    }
  }
}
