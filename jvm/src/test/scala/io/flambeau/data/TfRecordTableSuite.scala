// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import org.apache.spark.sql.{AnalysisException, DataFrame}
import org.apache.spark.sql.types.StructType
import org.scalatest.concurrent.Eventually._
import org.scalatest.time.SpanSugar._

import io.flambeau.SparkSuite
import io.flambeau.jni.Session

/** The data source in SQL, in partitioned directories and in streams. */
class TfRecordTableSuite extends SparkSuite {

  override protected def settings: Map[String, String] =
    Map("spark.sql.warehouse.dir" -> temporaryDirectory().resolve("warehouse").toUri.toString)

  override protected def afterAll(): Unit = {
    // A query that was stopped does not wait for its tasks.
    try eventually(timeout(10.seconds), interval(50.millis))(assert(Session.live == 0))
    finally super.afterAll()
  }

  private def path(): String = temporaryDirectory().resolve("records").toString

  private def numbers(from: Long, until: Long): DataFrame =
    spark.range(from, until, 1, 2).selectExpr("id", "concat('t', id) as text", "id % 3 as rest")

  private def ids(data: DataFrame): Seq[Long] = data.select("id").collect().map(_.getLong(0)).sorted.toSeq

  private def load(paths: String*): DataFrame = spark.read.format("tfrecord").load(paths: _*)

  test("directories of partitions give their columns, and are read only where asked for") {
    val folder = path()
    numbers(0, 30).write.format("tfrecord").partitionBy("rest").save(folder)
    val data = load(folder)
    assert(data.schema.toDDL == "id BIGINT,text STRING,rest INT")
    assert(data.where("rest != id % 3").isEmpty && ids(data) == (0L until 30L))
    val part = data.where("rest = 1")
    assert(ids(part) == (1L until 30L by 3L) && part.inputFiles.length == data.inputFiles.length)
    assert(data.select("rest").distinct().count() == 3 && data.groupBy("rest").count().count() == 3)
    assert(data.where("text = 't7'").select("rest", "text").collect().map(_.toString).toSeq == Seq("[1,t7]"))
  }

  test("several paths and patterns are read together") {
    val (one, other) = (path(), path())
    numbers(0, 5).write.format("tfrecord").save(one)
    numbers(5, 9).write.format("tfrecord").save(other)
    assert(ids(load(one, other)) == (0L until 9L))
    assert(ids(load(s"$one/part-*.tfrecord")) == (0L until 5L))
  }

  test("save modes are Spark's") {
    val folder = path()
    def save(mode: String, from: Long, until: Long): Unit =
      numbers(from, until).write.format("tfrecord").mode(mode).save(folder)
    save("errorifexists", 0, 2)
    assertThrows[AnalysisException](save("errorifexists", 0, 2))
    save("ignore", 2, 4)
    assert(ids(load(folder)) == Seq(0, 1))
    save("append", 2, 4)
    assert(ids(load(folder)) == Seq(0, 1, 2, 3))
    save("overwrite", 7, 8)
    assert(ids(load(folder)) == Seq(7))
  }

  test("SQL reads files, and makes, fills and reads tables") {
    val folder = path()
    numbers(0, 6).write.format("tfrecord").save(folder)
    assert(ids(spark.sql(s"SELECT * FROM tfrecord.`$folder`")) == (0L until 6L))
    spark.sql(s"CREATE TABLE seen USING tfrecord LOCATION '$folder'")
    assert(spark.table("seen").schema.toDDL == "id BIGINT,rest BIGINT,text STRING")
    assert(spark.sql("SELECT count(*) FROM seen").head().getLong(0) == 6)
    spark.sql("CREATE TABLE made (id BIGINT, text STRING, rest INT) USING tfrecord PARTITIONED BY (rest)")
    spark.sql("INSERT INTO made SELECT id, text, int(rest) FROM seen")
    assert(ids(spark.table("made").where("rest = 2 AND text != 't2'")) == Seq(5))
    spark.sql("INSERT OVERWRITE made SELECT 9L, null, 0")
    assert(spark.table("made").collect().map(_.toString).toSeq == Seq("[9,null,0]"))
  }

  test("a view of files can be written to") {
    val folder = path()
    numbers(0, 2).write.format("tfrecord").save(folder)
    load(folder).createOrReplaceTempView("records")
    spark.sql("INSERT INTO records SELECT 2L, 2L, 't2'")
    assert(ids(load(folder)) == Seq(0, 1, 2))
  }

  test("streams read and write files") {
    val (from, to, checkpoints) = (path(), path(), path())
    numbers(0, 4).write.format("tfrecord").save(from)
    val schema = StructType.fromDDL("id bigint, text string")
    val query = spark.readStream.format("tfrecord").schema(schema).load(from).writeStream
      .format("tfrecord").option("checkpointLocation", checkpoints).option("compression", "gzip").start(to)
    try {
      query.processAllAvailable()
      numbers(4, 6).write.format("tfrecord").mode("append").save(from)
      query.processAllAvailable()
    } finally query.stop()
    assert(ids(load(to)) == (0L until 6L))
  }
}
