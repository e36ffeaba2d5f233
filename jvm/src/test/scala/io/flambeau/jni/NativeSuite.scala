// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{ArrowBatcher, ArrowSchema}
import org.apache.spark.sql.types._
import org.json4s.JObject
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.compact
import org.scalatest.time.SpanSugar._

import io.flambeau._

class NativeSuite extends SparkSuite {
  private val schema = new StructType().add("x", FloatType).add("label", LongType)
  private val encode = ("kind" -> "encode") ~ ("columns" -> List("x", "label")) ~ ("record_type" -> "example")

  override protected def beforeAll(): Unit = {
    super.beforeAll()
    spark.sparkContext
    NativeLibrary.load()
  }

  private def withSession[T](body: Session => T): T = {
    val session = Session.open(encode, ArrowSchema.message(schema), null, null)
    try body(session)
    finally session.close()
  }

  private def transform(session: Session, rows: InternalRow*): Array[Byte] = {
    val batcher = new ArrowBatcher(schema)
    try {
      rows.foreach(batcher.add)
      batcher.lend(session.transform)
    } finally batcher.close()
  }

  test("the library tells its version, and loading again is harmless") {
    assert(NativeLibrary.load().contains("\"libtorch\":\"2.11"))
  }

  test("a panic, a libtorch exception and a wrong config become Java exceptions") {
    assertThrows[NativePanicException](Native.fault("panic"))
    assertThrows[FlambeauException](Native.fault("torch"))
    assertThrows[ConfigException](Native.fault("config"))
    assert(NativeLibrary.load().nonEmpty)
  }

  test("a batch is read where it lies") {
    val record = withSession(transform(_, InternalRow(1.5f, 7L)))
    assert(record.length > 16 && new String(record, "ISO-8859-1").contains("label"))
  }

  test("a handle that is closed or was never given is refused") {
    val session = Session.open(encode, ArrowSchema.message(schema), null, null)
    session.close()
    session.close()
    session.cancel()
    assertThrows[IllegalStateException](transform(session, InternalRow(1f, 1L)))
    assertThrows[IllegalStateException](Native.finish(123456789L, 0))
    Native.close(123456789L)
  }

  test("an unknown key of the config is refused by name") {
    val config = encode ~ ("colour" -> "red")
    val error = intercept[ConfigException](Session.open(config, ArrowSchema.message(schema), null, null))
    assert(error.getMessage.contains("colour"))
  }

  test("a check reads the same documents and opens nothing") {
    val predict = ("kind" -> "predict") ~ ("threads" -> 1) ~ ("columns" -> Columns(Seq("x"), Map.empty, Nil, Map.empty, None, "error").json)
    def refusal(config: JObject, model: String): String =
      intercept[ConfigException](
        Native.check(compact(config), ArrowSchema.message(schema), model.getBytes("UTF-8"), null)).getMessage
    assert(refusal(predict, Samples.Binary).contains("no weights"))
    assert(refusal(predict ~ ("colour" -> "red"), Samples.Binary).contains("colour"))
    assert(refusal(predict, "PK\u0003\u0004 no archive").nonEmpty)
    assert(Session.live == 0)
  }

  test("no session stays open, also after failures") {
    assertThrows[IllegalStateException](withSession(_.finish(0)))
    failAfter(10.seconds)((1 to 50).foreach(_ => withSession(transform(_, InternalRow(1f, 1L)))))
    assert(Session.live == 0)
  }
}
