// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.hadoop.fs.Path
import org.apache.spark.paths.SparkPath
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.execution.datasources.PartitionedFile
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.unsafe.types.UTF8String

import io.flambeau.SparkSuite
import io.flambeau.jni.Session

class TfRecordScanSuite extends SparkSuite {
  private val rows = 4000L
  private lazy val folder = {
    val path = temporaryDirectory().resolve("records").toString
    spark.range(0, rows, 1, 2).selectExpr("id", "repeat('x', int(id % 200)) as text", "array(id, id + 1) as pair")
      .write.format("tfrecord").save(path)
    path
  }

  private def load(options: (String, String)*): DataFrame =
    spark.read.format("tfrecord").options(options.toMap).load(folder)

  private def plan(data: DataFrame): String = data.queryExecution.executedPlan.toString

  private def splitBy[T](bytes: Long)(body: => T): T = {
    spark.conf.set("spark.sql.files.maxPartitionBytes", bytes)
    try body
    finally spark.conf.unset("spark.sql.files.maxPartitionBytes")
  }

  test("only the columns asked for are read, in batches") {
    val narrow = load().selectExpr("id + 1")
    assert(plan(narrow).contains("ReadSchema: struct<id:bigint>") && plan(narrow).contains("ColumnarToRow"))
    assert(plan(narrow).contains("TfRecordScan"))
    val table = spark.sql(s"SELECT text FROM tfrecord.`$folder`")
    assert(plan(table).contains("ReadSchema: struct<text:string>") && plan(table).contains("Batched: true"))
  }

  test("rows are counted without any column") {
    assert(load().count() == rows)
    assert(spark.sql(s"SELECT count(*) FROM tfrecord.`$folder`").head().getLong(0) == rows)
  }

  test("a split file gives each row once, however small the splits") {
    for (bytes <- Seq(1000L, 30011L)) splitBy(bytes) {
      val data = load()
      assert(data.rdd.getNumPartitions > 2)
      val seen = data.selectExpr("id", "length(text)", "pair[1] - id").collect()
      assert(seen.map(row => (row.getLong(0), row.getInt(1), row.getLong(2))).sorted.toSeq ==
        (0L until rows).map(id => (id, (id % 200).toInt, 1L)))
      assert(load("splitFiles" -> "false").rdd.getNumPartitions == 2)
    }
  }

  test("a limit ends reading early and frees everything") {
    assert(load().limit(3).collect().length == 3)
    assert(load().select("pair").take(1).head.getSeq[Long](0).length == 2)
    assert(Session.live == 0)
    assert(ArrowUtils.rootAllocator.getAllocatedMemory == 0)
  }

  test("scans of the same files are the same to Spark, unless their options differ") {
    def scan(options: (String, String)*) = load(options: _*).select("id").queryExecution.executedPlan
    assert(scan().sameResult(scan()))
    assert(!scan().sameResult(scan("mode" -> "PERMISSIVE")))
  }

  test("rows come too, where Spark wants no batches") {
    val file = new Path(load().inputFiles.head)
    val length = file.getFileSystem(spark.sparkContext.hadoopConfiguration).getFileStatus(file).getLen
    val values = InternalRow(UTF8String.fromString("here"))
    val split = PartitionedFile(values, SparkPath.fromPath(file), 0, length, Array.empty, 0, length, Map.empty)
    val read = new TfRecordFileFormat().buildReaderWithPartitionValues(
      spark,
      StructType.fromDDL("id bigint, text string"),
      StructType.fromDDL("place string"),
      StructType.fromDDL("id bigint"),
      Nil,
      Map.empty,
      spark.sparkContext.hadoopConfiguration)
    val first = read(split).map(_.copy()).toSeq
    assert(first.length == rows / 2)
    assert(first.map(_.getLong(0)).distinct.length == rows / 2 && first.forall(_.getString(1) == "here"))
  }

  test("values are read from native memory in joins, sorts and aggregates") {
    val data = load().where("id < 3000")
    val texts = data.groupBy("text").count().orderBy("text").collect()
    assert(texts.length == 200 && texts.forall(_.getLong(1) == 15))
    val joined = data.as("a").join(data.as("b"), "id").where("a.text = b.text AND a.pair = b.pair")
    assert(joined.count() == 3000)
    assert(data.sort(data("id").desc).select("text", "id").take(5).map(_.getLong(1)).toSeq == (2995L to 2999L).reverse)
  }
}
