// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.types.DataType

/**
 * The rows of a sorted iterator by the value of their first field. Rows of a group that nobody has taken are
 * passed over when the next one is asked for; a row is valid until the iterator moves on.
 *
 * @param value makes of a field's value what does not change when the iterator moves on
 */
private[train] final class RowGroups(rows: Iterator[InternalRow], value: Any => Any, keyType: DataType)
    extends Iterator[(Any, Iterator[InternalRow])] {
  private var ahead = Option.empty[InternalRow]
  private var key: Any = _
  private var groups = 0

  /** Groups given so far. */
  def index: Int = groups

  override def hasNext: Boolean = {
    while (groups > 0 && inGroup) ahead = None
    peek.isDefined
  }

  override def next(): (Any, Iterator[InternalRow]) = {
    if (!hasNext) throw new NoSuchElementException("no more groups")
    key = peek.map(keyOf).orNull
    groups += 1
    key -> new Iterator[InternalRow] {
      override def hasNext: Boolean = inGroup
      override def next(): InternalRow = {
        val row = peek.getOrElse(throw new NoSuchElementException("no more rows"))
        ahead = None
        row
      }
    }
  }

  private def inGroup: Boolean = peek.exists(keyOf(_) == key)

  private def peek: Option[InternalRow] = {
    if (ahead.isEmpty && rows.hasNext) ahead = Some(rows.next())
    ahead
  }

  private def keyOf(row: InternalRow): Any = if (row.isNullAt(0)) null else value(row.get(0, keyType))
}
