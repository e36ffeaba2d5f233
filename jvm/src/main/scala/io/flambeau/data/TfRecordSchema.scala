// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import org.apache.spark.sql.types._

import io.flambeau.DataException

/**
 * What is known of one feature.
 *
 * @param inList whether it is one of a SequenceExample's feature lists
 * @param kind "int", "float" or "bytes"; None if it never had a value
 * @param utf8 whether every value of bytes is UTF-8
 * @param maxValues the most values that a record, or a step of a list, has
 * @param path of a file that has it
 */
final case class Feature(
    name: String, inList: Boolean, kind: Option[String], utf8: Boolean, maxValues: Long, path: String)

/** The columns that TFRecord files may have, and those that their records ask for. */
object TfRecordSchema {
  private val ByteArrayColumn = "byteArray"

  /** Whether a column of any record type may have this type. */
  def supports(dataType: DataType): Boolean = dataType match {
    case ArrayType(ArrayType(element, _), _) => isScalar(element)
    case ArrayType(element, _) => isScalar(element)
    case other => isScalar(other)
  }

  private def isScalar(dataType: DataType): Boolean = dataType match {
    case BooleanType | ByteType | ShortType | IntegerType | LongType | FloatType | DoubleType => true
    case StringType | BinaryType => true
    case _ => false
  }

  /** @throws DataException if records of this type cannot hold `columns`, naming the first that does not fit */
  def verify(columns: StructType, recordType: RecordType): Unit = recordType match {
    case RecordType.ByteArray =>
      if (columns.map(_.dataType) != Seq(BinaryType)) {
        throw new DataException(
          s"records of recordType ByteArray are one binary column, not ${columns.simpleString}. " +
            "Try: select that column alone, cast to binary")
      }
    case RecordType.Example =>
      for (StructField(name, array @ ArrayType(_: ArrayType, _), _, _) <- columns) {
        throw new DataException(
          s"column '$name' has type ${array.sql}, which a record of recordType Example cannot hold. " +
            "Try: the option recordType=SequenceExample, or flatten it")
      }
    case RecordType.SequenceExample =>
  }

  /** The columns of files whose records are bytes of any kind. */
  val OfByteArrays: StructType = new StructType().add(ByteArrayColumn, BinaryType)

  /**
   * The columns of all `features`, by name.
   *
   * @param binary features of bytes that stay binary, even if they are UTF-8
   * @throws DataException for a feature that differs between records or files
   */
  def of(features: Seq[Feature], binary: Set[String]): StructType = {
    val merged = features.groupBy(_.name).values.map(_.reduce(merge)).toSeq.sortBy(_.name)
    StructType(merged.map(feature => StructField(feature.name, typeOf(feature, binary))))
  }

  private def merge(one: Feature, other: Feature): Feature = {
    if (one.inList != other.inList) refuse(one, other, placeOf(_))
    for (first <- one.kind; second <- other.kind if first != second) refuse(one, other, _.kind.get)
    one.copy(
      kind = one.kind.orElse(other.kind),
      utf8 = one.utf8 && other.utf8,
      maxValues = one.maxValues.max(other.maxValues),
      path = if (one.kind.isEmpty) other.path else one.path)
  }

  private def refuse(one: Feature, other: Feature, what: Feature => String): Nothing =
    throw new DataException(
      s"feature '${one.name}' is ${what(one)} in ${one.path}, but ${what(other)} in ${other.path}. " +
        "Try: give a schema, with or without that column")

  private def placeOf(feature: Feature): String = if (feature.inList) "a feature list" else "a feature"

  private def typeOf(feature: Feature, binary: Set[String]): DataType = {
    val element = feature.kind match {
      case Some("int") => LongType
      case Some("float") => FloatType
      case Some("bytes") if !feature.utf8 || binary(feature.name) => BinaryType
      case _ => StringType
    }
    if (feature.inList) ArrayType(ArrayType(element, containsNull = false), containsNull = false)
    else if (feature.maxValues > 1) ArrayType(element, containsNull = false)
    else element
  }
}
