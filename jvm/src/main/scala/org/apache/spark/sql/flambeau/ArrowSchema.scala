// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import scala.jdk.CollectionConverters._

import org.apache.arrow.vector.types.{DateUnit, FloatingPointPrecision, TimeUnit}
import org.apache.arrow.vector.types.pojo.{ArrowType, Field, FieldType, Schema}
import org.apache.spark.ml.image.ImageSchema
import org.apache.spark.ml.linalg.SQLDataTypes
import org.apache.spark.sql.types._
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.{compact, render}

import io.flambeau.DataException

/**
 * The Arrow schema of the columns that native code reads and writes. Built here rather than by
 * Spark, whose own conversion changes between releases; the names of nested fields are Spark's.
 * What a column may be depends on what it is for: models and files each refuse what they do not
 * take.
 */
object ArrowSchema {

  /** What native code has any use for, for error messages. */
  private val Accepted: String =
    "boolean, tinyint, smallint, int, bigint, float, double, decimal, date, timestamp, binary, string, " +
      "an array of these, an array of such arrays, an ML vector, or an image of Spark's data source"

  /** Metadata of a field for stacked columns: their names as a JSON array. */
  private val StackNames = "flambeau.columns"

  /** @throws DataException naming the first column whose type native code has no use for */
  def of(columns: StructType): Schema =
    new Schema(StackedColumns.parts(columns).map {
      case Seq(field) => of(field.name, field.dataType, field.name)
      case fields => stack(fields)
    }.asJava)

  /** The schema as the bytes of an Arrow IPC schema message. */
  def message(columns: StructType): Array[Byte] = of(columns).serializeAsMessage()

  private def of(name: String, dataType: DataType, column: String): Field = dataType match {
    case ArrayType(ArrayType(element, _), _) =>
      nested(name, new ArrowType.List, nested("element", new ArrowType.List, scalar("element", element, column)))
    case ArrayType(element, _) => nested(name, new ArrowType.List, scalar("element", element, column))
    case SQLDataTypes.VectorType =>
      nested(name, new ArrowType.Struct, vectorFields.map { case (child, kind) => of(child, kind, column) }: _*)
    case struct: StructType if isImage(struct) =>
      nested(name, new ArrowType.Struct, struct.map(field => of(field.name, field.dataType, column)): _*)
    case other => scalar(name, other, column)
  }

  /** Whether a column is one of Spark's data source `image`. */
  def isImage(dataType: DataType): Boolean = dataType match {
    case struct: StructType => struct.map(field => field.name -> field.dataType) == imageFields
    case _ => false
  }

  private lazy val imageFields: Seq[(String, DataType)] =
    ImageSchema.columnSchema.map(field => field.name -> field.dataType)

  /** A list in each row, of a value of each field; its own name says nothing. */
  private def stack(fields: Seq[StructField]): Field = {
    val first = fields.head
    val names = Map(StackNames -> compact(render(fields.map(_.name)))).asJava
    val kind = new FieldType(false, new ArrowType.FixedSizeList(fields.length), null, names)
    new Field(s"${first.name} ..", kind, List(scalar("element", first.dataType, first.name)).asJava)
  }

  private def scalar(name: String, dataType: DataType, column: String): Field =
    new Field(name, FieldType.nullable(arrowType(dataType, column)), null)

  private def nested(name: String, arrowType: ArrowType, children: Field*): Field =
    new Field(name, FieldType.nullable(arrowType), children.asJava)

  private val vectorFields: Seq[(String, DataType)] = Seq(
    "type" -> ByteType,
    "size" -> IntegerType,
    "indices" -> ArrayType(IntegerType),
    "values" -> ArrayType(DoubleType))

  private def arrowType(dataType: DataType, column: String): ArrowType = dataType match {
    case BooleanType => new ArrowType.Bool
    case ByteType => new ArrowType.Int(8, true)
    case ShortType => new ArrowType.Int(16, true)
    case IntegerType => new ArrowType.Int(32, true)
    case LongType => new ArrowType.Int(64, true)
    case FloatType => new ArrowType.FloatingPoint(FloatingPointPrecision.SINGLE)
    case DoubleType => new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE)
    case BinaryType => new ArrowType.Binary
    case StringType => new ArrowType.Utf8
    case DateType => new ArrowType.Date(DateUnit.DAY)
    case TimestampType => new ArrowType.Timestamp(TimeUnit.MICROSECOND, "UTC")
    case TimestampNTZType => new ArrowType.Timestamp(TimeUnit.MICROSECOND, null)
    case decimal: DecimalType if decimal.scale >= 0 =>
      new ArrowType.Decimal(decimal.precision, decimal.scale, 128)
    case other =>
      throw new DataException(
        s"column '$column' has type ${other.sql}; Flambeau takes $Accepted. Try: cast it")
  }
}
