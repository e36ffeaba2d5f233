// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.nio.charset.StandardCharsets.UTF_8

import org.apache.hadoop.io.Text
import org.apache.spark.sql.catalyst.InternalRow

/**
 * The rows of lines in their order: of plain ones by `plain`, of others by Spark. A row stays as it is
 * until the next is asked for.
 *
 * @param lines each is valid until its `hasNext` is called
 * @param others Spark's rows of lines, which it may drop; it takes the header before it returns
 */
private[flambeau] final class PlainCsvRows(lines: Iterator[Text], plain: PlainCsvLine)(
    others: Iterator[String] => Iterator[InternalRow])
    extends Iterator[InternalRow] {

  /** A line that was looked at, but belongs to no row yet. */
  private var pending: Text = _
  private var row: InternalRow = _
  private val rest = others(new Rest)

  override def hasNext: Boolean = {
    if (row == null && lines.hasNext) {
      pending = lines.next()
      if (plain.parse(pending.getBytes, pending.getLength)) {
        pending = null
        row = plain.row
      } else if (rest.hasNext) row = rest.next()
    }
    row != null
  }

  override def next(): InternalRow =
    if (hasNext) {
      val current = row
      row = null
      current
    } else Iterator.empty.next()

  /** The lines from the pending one on. Spark takes more than one of them only if it drops some. */
  private final class Rest extends Iterator[String] {
    override def hasNext: Boolean = pending != null || lines.hasNext

    override def next(): String = {
      val line = if (pending != null) pending else lines.next()
      pending = null
      new String(line.getBytes, 0, line.getLength, UTF_8)
    }
  }
}
