// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.util.concurrent.atomic.AtomicInteger

import org.apache.spark.scheduler.{SparkListener, SparkListenerJobStart}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.JoinedRow
import org.apache.spark.sql.types.IntegerType

import io.flambeau.SparkSuite

class SparkInternalsSuite extends SparkSuite {

  test("mapped rows keep their columns and order, and nothing runs before they are asked for") {
    val jobs = new AtomicInteger
    val listener = new SparkListener {
      override def onJobStart(start: SparkListenerJobStart): Unit = { jobs.incrementAndGet(); () }
    }
    spark.sparkContext.addSparkListener(listener)
    val data = spark.range(100).repartition(3).selectExpr("id", "cast(id as string) as text")
    val mapped = SparkInternals.mapRows(data, data.schema.add("one", IntegerType)) {
      _.map(row => new JoinedRow(row, InternalRow(1)))
    }
    Thread.sleep(500)
    assert(jobs.get == 0)
    val rows = mapped.where("one = 1").orderBy("id").collect()
    assert(rows.map(row => (row.getLong(0), row.getString(1))).toSeq == (0L until 100L).map(id => (id, id.toString)))
    assert(jobs.get > 0)
  }

  test("a projection picks columns by name, in the order asked for") {
    val schema = spark.range(1).selectExpr("1 as a", "2 as b", "3 as c").schema
    val picked = SparkInternals.projection(schema, Seq("c", "a"))(InternalRow(1, 2, 3))
    assert(picked.numFields == 2 && picked.getInt(0) == 3 && picked.getInt(1) == 1)
  }
}
