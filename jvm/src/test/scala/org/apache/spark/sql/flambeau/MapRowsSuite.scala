// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.util.concurrent.atomic.AtomicInteger

import org.apache.spark.scheduler.{SparkListener, SparkListenerJobStart}
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.JoinedRow
import org.apache.spark.sql.streaming.Trigger
import org.apache.spark.sql.types.IntegerType

import io.flambeau.SparkSuite

class MapRowsSuite extends SparkSuite {

  private def withOne(data: DataFrame): DataFrame =
    MapRows(data, data.schema.add("one", IntegerType), "WithOne") {
      _.map(row => new JoinedRow(row, InternalRow(1)))
    }

  test("mapped rows keep their columns and order, and nothing runs before they are asked for") {
    val jobs = new AtomicInteger
    val listener = new SparkListener {
      override def onJobStart(start: SparkListenerJobStart): Unit = { jobs.incrementAndGet(); () }
    }
    spark.sparkContext.addSparkListener(listener)
    val data = spark.range(100).repartition(3).selectExpr("id", "cast(id as string) as text")
    val mapped = withOne(data)
    Thread.sleep(500)
    assert(jobs.get == 0)
    val rows = mapped.where("one = 1").orderBy("id").collect()
    assert(rows.map(row => (row.getLong(0), row.getString(1))).toSeq == (0L until 100L).map(id => (id, id.toString)))
    assert(jobs.get > 0)
  }

  test("mapped rows can be joined with themselves, cached, grouped, and left without a column") {
    val mapped = withOne(spark.range(0, 50, 1, 3).toDF())
    assert(mapped.as("a").join(mapped.as("b"), "id").count() == 50)
    assert(mapped.union(mapped).groupBy("one").count().collect().map(_.getLong(1)).toSeq == Seq(100L))
    assert(mapped.select("one").distinct().count() == 1)
    assert(mapped.cache().where("id > 40").count() == 9)
    assert(mapped.queryExecution.executedPlan.toString.contains("InMemoryTableScan"))
    assert(withOne(withOne(spark.range(9).toDF()).withColumnRenamed("one", "first")).where("first = one").count() == 9)
  }

  test("a stream's rows are mapped as others are") {
    val (in, out) = (temporaryDirectory().resolve("in").toString, temporaryDirectory())
    spark.range(0, 100, 1, 4).write.parquet(in)
    val rows = withOne(spark.readStream.schema("id long").parquet(in))
    assert(rows.isStreaming)
    val query = rows.where("id < 30").writeStream
      .option("checkpointLocation", out.resolve("checkpoint").toString)
      .trigger(Trigger.AvailableNow())
      .start(out.resolve("out").toString)
    query.awaitTermination(60000)
    query.stop()
    query.exception.foreach(throw _)
    assert(spark.read.parquet(out.resolve("out").toString).selectExpr("sum(one)", "sum(id)").head().toSeq == Seq(30L, 435L))
  }
}
