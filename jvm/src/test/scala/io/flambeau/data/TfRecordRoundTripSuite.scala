// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import org.apache.spark.sql.{AnalysisException, DataFrame, Row}
import org.apache.spark.sql.functions.lit
import org.apache.spark.sql.types._

import io.flambeau.SparkSuite
import io.flambeau.jni.Session

class TfRecordRoundTripSuite extends SparkSuite {

  override protected def afterAll(): Unit = {
    val left = Session.live
    super.afterAll()
    assert(left == 0)
  }

  private val scalars: Seq[(DataType, Seq[Any])] = Seq(
    ByteType -> Seq[Byte](1, -128, 127),
    ShortType -> Seq[Short](2, Short.MinValue, Short.MaxValue),
    IntegerType -> Seq(3, Int.MinValue, Int.MaxValue),
    LongType -> Seq(4L, Long.MinValue, Long.MaxValue),
    BooleanType -> Seq(true, false, true),
    FloatType -> Seq(0.5f, Float.MinValue, Float.PositiveInfinity),
    DoubleType -> Seq(0.25, -1.5, 1e10f.toDouble),
    StringType -> Seq("plain", "", "Grüße 😀"),
    BinaryType -> Seq(Array[Byte](0, -1), Array.emptyByteArray, Array.fill[Byte](3000)(7)))

  private def frame(schema: StructType, rows: Seq[Row], partitions: Int = 1): DataFrame =
    spark.createDataFrame(spark.sparkContext.parallelize(rows, partitions), schema)

  /** Rows as texts, as arrays of bytes are equal only to themselves. */
  private def texts(rows: Iterable[Row]): Seq[String] = {
    def text(value: Any): String = value match {
      case bytes: Array[Byte] => bytes.mkString("0x", ":", "")
      case values: scala.collection.Seq[_] => values.map(text).mkString("[", ",", "]")
      case other => String.valueOf(other)
    }
    rows.map(_.toSeq.map(text).mkString("|")).toSeq.sorted
  }

  private def write(data: DataFrame, options: (String, String)*): String = {
    val path = temporaryDirectory().resolve("records").toString
    data.write.format("tfrecord").options(options.toMap).save(path)
    path
  }

  private def read(path: String, schema: StructType, options: (String, String)*): DataFrame =
    spark.read.format("tfrecord").options(options.toMap).schema(schema).load(path)

  private def infer(path: String, options: (String, String)*): DataFrame =
    spark.read.format("tfrecord").options(options.toMap).load(path)

  test("scalars of every type come back, nulls too") {
    val schema = StructType(scalars.map { case (kind, _) => StructField(s"c_${kind.typeName}", kind) })
    val rows = Row.fromSeq(schema.map(_ => null)) +: scalars.map(_._2).transpose.map(Row.fromSeq)
    val path = write(frame(schema, rows))
    assert(texts(read(path, schema).collect()) == texts(rows))
  }

  test("arrays of every type come back, empty ones and nulls too") {
    val schema = StructType(scalars.map { case (kind, _) => StructField(s"c_${kind.typeName}", ArrayType(kind)) })
    val full = Row.fromSeq(scalars.map(_._2))
    val rows = Seq(full, Row.fromSeq(schema.map(_ => Nil)), Row.fromSeq(schema.map(_ => null)), full)
    val path = write(frame(schema, rows))
    assert(texts(read(path, schema).collect()) == texts(rows))
  }

  test("arrays of arrays come back as feature lists of SequenceExamples") {
    val schema = StructType(
      StructField("id", LongType) +:
        scalars.map { case (kind, _) => StructField(s"c_${kind.typeName}", ArrayType(ArrayType(kind))) })
    val rows = Seq(
      Row.fromSeq(1L +: scalars.map { case (_, values) => Seq(values, Nil, values.take(1)) }),
      Row.fromSeq(2L +: scalars.map(_ => Nil)),
      Row.fromSeq(3L +: scalars.map(_ => null)))
    val path = write(frame(schema, rows), "recordType" -> "SequenceExample")
    assert(texts(read(path, schema, "recordType" -> "SequenceExample").collect()) == texts(rows))
    val inferred = infer(path, "recordType" -> "SequenceExample")
    assert(inferred.schema("id").dataType == LongType)
    assert(inferred.schema("c_double").dataType.sql == "ARRAY<ARRAY<FLOAT>>")
    assert(inferred.schema("c_binary").dataType.sql == "ARRAY<ARRAY<BINARY>>")
  }

  test("records of bytes are one binary column") {
    val rows = Seq(Row(Array[Byte](1, 2)), Row(Array.emptyByteArray))
    val path = write(frame(new StructType().add("any", BinaryType), rows), "recordType" -> "ByteArray")
    val back = infer(path, "recordType" -> "ByteArray")
    assert(back.schema.toDDL == "byteArray BINARY" && texts(back.collect()) == texts(rows) && back.count() == 2)
  }

  test("a schema is inferred from all records of all files") {
    val path = write(frame(StructType.fromDDL("n bigint, s string, x float"), Seq(Row(1L, "a", null))))
    frame(StructType.fromDDL("n array<bigint>, s binary, y double"), Seq(Row(Seq(1L, 2L), Array[Byte](-1), 0.5)))
      .write.format("tfrecord").mode("append").save(path)
    val inferred = infer(path)
    assert(inferred.schema.toDDL == "n ARRAY<BIGINT>,s BINARY,y FLOAT")
    assert(texts(inferred.collect()) == Seq("[1,2]|0x-1|0.5", "[1]|0x97|null"))
  }

  test("inference looks at as many records as it is told, and leaves binary what it is told") {
    val rows = Seq(Row(Seq(1L), "a"), Row(Seq(1L, 2L), "b"))
    val path = write(frame(StructType.fromDDL("n array<bigint>, s string"), rows))
    assert(infer(path, "sampleRecords" -> "1").schema.toDDL == "n BIGINT,s STRING")
    assert(infer(path, "binaryFeatures" -> "s").schema.toDDL == "n ARRAY<BIGINT>,s BINARY")
    assert(jobsOf(infer(path)) == 1)
  }

  test("a feature of two kinds is refused with both files") {
    val path = write(frame(StructType.fromDDL("n bigint"), Seq(Row(1L))))
    frame(StructType.fromDDL("n string"), Seq(Row("a"))).write.format("tfrecord").mode("append").save(path)
    val message = intercept[Exception](infer(path)).getMessage
    val both = "feature 'n' is (int|bytes) in .*part-00000.*, but (int|bytes) in .*part-00000".r
    assert(both.findFirstIn(message).nonEmpty, message)
    assert(read(path, new StructType()).count() == 2)
  }

  test("files without records, and directories without files, ask for a schema") {
    val path = write(frame(StructType.fromDDL("n bigint"), Nil))
    assert(intercept[Exception](infer(path)).getMessage.contains("no records. Try: give a schema"))
    assert(read(path, StructType.fromDDL("n bigint")).count() == 0)
    val error = intercept[AnalysisException](infer(temporaryDirectory().toString))
    assert(error.getMessage.contains("UNABLE_TO_INFER_SCHEMA"))
  }

  test("types that records do not have are refused by Spark with the column") {
    for (kind <- Seq("decimal(10,2)", "date", "timestamp", "struct<a:int>")) {
      val data = spark.range(1).select(lit(null).cast(kind).as("odd"))
      val writing = intercept[AnalysisException](write(data)).getMessage
      assert(writing.contains("odd") && writing.contains("TFRecord"), writing)
    }
    val path = write(frame(StructType.fromDDL("n bigint"), Seq(Row(1L))))
    assert(intercept[AnalysisException](read(path, StructType.fromDDL("n date"))).getMessage.contains("TFRecord"))
  }

  for (compression <- Seq("none" -> "", "gzip" -> ".gz", "zlib" -> ".zlib", "zstd" -> ".zst")) {
    val (name, suffix) = compression
    test(s"files of compression $name are written and found to be so") {
      val data = spark.range(0, 5000, 1, 2).selectExpr("id", "repeat('x', int(id % 1000)) as text")
      val path = write(data, "compression" -> name)
      val files = new java.io.File(path).list().filter(_.startsWith("part-"))
      assert(files.length == 2 && files.forall(_.endsWith(s".tfrecord$suffix")), files.toSeq)
      val back = infer(path)
      assert(back.schema.toDDL == "id BIGINT,text STRING")
      assert(texts(back.collect()) == texts(data.collect()))
    }
  }
}
