// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.sql.types._

/**
 * Columns that cross to native code as one. Numbers of one type that lie side by side become one
 * Arrow column of fixed-size lists, whose field knows their names: a table of 784 pixel columns
 * is one buffer, row by row, instead of 784. Only the sessions that find columns by their names in
 * there take it, so a schema says of its columns whether they may be stacked.
 */
object StackedColumns {
  private val Key = "__flambeau_stacked"

  /** `columns` whose numbers may be stacked. */
  def allow(columns: StructType): StructType = StructType(columns.map { field =>
    val others = new MetadataBuilder().withMetadata(field.metadata).remove(Key)
    val marked = if (isNumber(field.dataType)) others.putBoolean(Key, true) else others
    field.copy(metadata = marked.build())
  })

  /** The fields of `columns` in order, those that are stacked in one part. */
  private[flambeau] def parts(columns: StructType): Seq[Seq[StructField]] =
    columns.foldRight(List.empty[List[StructField]]) {
      case (field, stack :: rest) if joins(field, stack.head) => (field :: stack) :: rest
      case (field, parts) => List(field) :: parts
    }

  private def joins(field: StructField, next: StructField): Boolean =
    field.dataType == next.dataType && field.metadata.contains(Key) && next.metadata.contains(Key)

  private def isNumber(dataType: DataType): Boolean = dataType match {
    case ByteType | ShortType | IntegerType | LongType | FloatType | DoubleType => true
    case _ => false
  }
}
