// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import java.io.ByteArrayInputStream
import java.nio.ByteBuffer
import java.nio.file.Files
import java.util.zip.GZIPOutputStream

import scala.util.Using

import org.apache.hadoop.conf.Configuration
import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.DataException

class IdxSuite extends AnyFunSuite {

  private def file(magic: Int, dimensions: Seq[Int], body: Int): Array[Byte] = {
    val buffer = ByteBuffer.allocate(4 + 4 * dimensions.length + body).putInt(magic)
    dimensions.foreach(buffer.putInt(_))
    (0 until body).foreach(value => buffer.put(value.toByte))
    buffer.array
  }

  private def parse(bytes: Array[Byte]): Idx = Idx.parse("some.idx", new ByteArrayInputStream(bytes))

  private def refusal(bytes: Array[Byte]): String = intercept[DataException](parse(bytes)).getMessage

  test("dimensions are read") {
    val idx = parse(file(0x803, Seq(2, 2, 3), 12))
    assert(idx.dimensions == Seq(2, 2, 3) && idx.count == 2 && idx.itemSize == 6)
  }

  test("items are read from any on, of plain and packed files") {
    val bytes = file(0x803, Seq(3, 2, 2), 12)
    val plain = Files.createTempFile("flambeau-test", ".idx")
    Files.write(plain, bytes)
    val packed = Files.createTempFile("flambeau-test", ".idx.gz")
    Using.resource(new GZIPOutputStream(Files.newOutputStream(packed)))(_.write(bytes))
    for (path <- Seq(plain, packed)) {
      val items = Idx.check(path.toString, new Configuration).items(1, new Configuration)
      try assert(items.map(_.toSeq).toSeq == Seq(Seq[Byte](4, 5, 6, 7), Seq[Byte](8, 9, 10, 11)))
      finally items.close()
    }
  }

  test("another element type is refused with the header") {
    assert(refusal(file(0xd03, Seq(1, 1, 1), 4)).startsWith(
      "some.idx: not an IDX file of unsigned bytes: header 0x00000d03"))
  }

  test("a short body is refused with the offset of its end") {
    assert(refusal(file(0x801, Seq(5), 3)).contains("3 values instead of 5, the end of the file at byte 11"))
  }

  test("trailing bytes are refused") {
    assert(refusal(file(0x801, Seq(2), 3)).contains("more than the 2 values of the header at byte 10"))
  }

  test("dimensions whose product overflows are refused before anything is allocated") {
    assert(refusal(file(0x803, Seq(65536, 65536, 4), 0)).contains("65536 x 65536 x 4 values are too many"))
    assert(refusal(file(0x801, Seq(-1), 0)).contains("dimension 4294967295 is too large at byte 4"))
  }

  test("a header that ends early is refused") {
    assert(refusal(Array[Byte](0, 0, 8)).contains("ends within the header"))
    assert(refusal(file(0x803, Seq(1), 0)).contains("ends within the header"))
  }

  test("a file that is not there is named") {
    val error = intercept[DataException](Idx.check("/no/such/file.gz", new Configuration))
    assert(error.getMessage.contains("/no/such/file.gz"))
  }
}
