// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.DataOutputStream

import scala.jdk.CollectionConverters._
import scala.util.Using

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.DataFrame

import io.flambeau.DataException

/**
 * Images and labels as the two IDX files of MNIST. A file has one writer, so the rows come to the
 * driver, one partition at a time.
 */
private[cli] object IdxFile {
  private val Header = 0x800

  /** @param shape height and width of an image; a line of pixels without it */
  def write(table: DataFrame, image: String, label: String, shape: Option[(Int, Int)], output: String): Unit = {
    val rows = table.select(Pixels.of(table, image), table(label).cast("int")).cache()
    try {
      val count = Math.toIntExact(rows.count())
      if (count == 0) throw new DataException("there are no rows to write")
      rows.where(rows.columns.map(name => rows(name).isNull).reduce(_ || _)).take(1).foreach { _ =>
        throw new DataException("a row has no label or no image: IDX has both for every row")
      }
      val size = rows.head().getAs[Array[Byte]](0).length
      val files = new Path(output).getFileSystem(table.sparkSession.sparkContext.hadoopConfiguration)
      def open(name: String, dimensions: Int*) = {
        val out = new DataOutputStream(files.create(new Path(output, name)))
        out.writeInt(Header + dimensions.length)
        dimensions.foreach(out.writeInt)
        out
      }
      Using.Manager { use =>
        val (height, width) = shape.getOrElse((1, size))
        if (height * width != size) throw new DataException(s"an image of $size bytes is not $height x $width. Try: another --shape")
        val images = use(open("images-idx3-ubyte", count, height, width))
        val labels = use(open("labels-idx1-ubyte", count))
        rows.toLocalIterator().asScala.zipWithIndex.foreach { case (row, at) =>
          val pixels = row.getAs[Array[Byte]](0)
          if (pixels.length != size) {
            throw new DataException(s"row $at has ${pixels.length} pixels, the first one has $size: IDX holds images of one size")
          }
          val number = row.getInt(1)
          if (number < 0 || number > 255) throw new DataException(s"row $at has label $number: IDX labels are from 0 to 255")
          images.write(pixels)
          labels.write(number)
        }
      }.get
    } finally rows.unpersist()
  }
}
