// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import org.apache.spark.ml.linalg.SQLDataTypes
import org.apache.spark.sql.flambeau.ArrowSchema
import org.apache.spark.sql.types._

import io.flambeau.DataException

/** Checks of a DataFrame's columns before any job runs; messages name column, type and remedy. */
private[ml] object ColumnChecks {
  private val Numbers = "boolean, tinyint, smallint, int, bigint, float, double or decimal"

  /** A model input or label: numbers, points in time, an array of numbers, bytes, or an ML vector. */
  def requireTensor(schema: StructType, role: String, name: String): Unit =
    requireType(schema, role, name, s"$Numbers, date, timestamp, an array of these, binary, or an ML vector") {
      case ArrayType(element, _) => isNumber(element) || isTime(element)
      case BinaryType | SQLDataTypes.VectorType => true
      case scalar => isNumber(scalar) || isTime(scalar)
    }

  /** A model input: what a label may be, strings for a model that looks them up, or images. */
  def requireInput(schema: StructType, role: String, name: String): Unit =
    schema.fields.find(_.name == name).map(_.dataType) match {
      case Some(StringType | ArrayType(StringType, _)) =>
      case Some(image) if ArrowSchema.isImage(image) =>
      case _ => requireTensor(schema, role, name)
    }

  /** A feature column of images. */
  def requireImage(schema: StructType, features: Seq[String], name: String): Unit = {
    if (!features.contains(name)) {
      throw new DataException(s"imageCols names '$name', which is no feature column; those are ${listed(features.toArray)}")
    }
    requireType(schema, "imageCols", name, "binary, or the image struct of Spark's data source") {
      case BinaryType => true
      case other => ArrowSchema.isImage(other)
    }
  }

  def requireNumber(schema: StructType, role: String, name: String): Unit =
    requireType(schema, role, name, Numbers)(isNumber)

  def requireBoolean(schema: StructType, role: String, name: String): Unit =
    requireType(schema, role, name, "boolean")(_ == BooleanType)

  /** A column that will be added. */
  def requireAbsent(schema: StructType, role: String, name: String): Unit =
    if (schema.fieldNames.contains(name)) {
      throw new DataException(s"column '$name' is there already; set $role to another name, or drop the column")
    }

  private def isNumber(dataType: DataType): Boolean = dataType match {
    case _: NumericType | BooleanType => true
    case _ => false
  }

  private def isTime(dataType: DataType): Boolean = dataType match {
    case DateType | TimestampType | TimestampNTZType => true
    case _ => false
  }

  private def requireType(schema: StructType, role: String, name: String, accepted: String)(
      isAccepted: DataType => Boolean): Unit = {
    val field = schema.fields.find(_.name == name).getOrElse {
      throw new DataException(s"$role '$name' is no column of the DataFrame; it has ${listed(schema.fieldNames)}")
    }
    if (!isAccepted(field.dataType)) {
      throw new DataException(
        s"$role '$name' has type ${field.dataType.sql}; it must be $accepted. Try: cast or encode it first")
    }
  }

  private val Listed = 20

  private def listed(names: Array[String]): String = {
    val first = names.take(Listed).mkString("'", "', '", "'")
    if (names.isEmpty) "none" else if (names.length > Listed) s"$first and ${names.length - Listed} more" else first
  }
}
