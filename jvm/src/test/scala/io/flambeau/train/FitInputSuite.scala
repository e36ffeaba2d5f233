// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.sql.{DataFrame, Dataset}
import org.apache.spark.sql.flambeau.{RowOrder, SparkInternals}
import org.apache.spark.sql.functions.{col, lit, udf}

import io.flambeau.{DataException, SparkSuite}
import io.flambeau.jni.Columns

class FitInputSuite extends SparkSuite {

  private def numbers(partitions: Int): DataFrame = numbersOf(spark.range(0, 100, 1, partitions))

  private def numbersOf(ids: Dataset[java.lang.Long]): DataFrame =
    ids.select(col("id").as("x"), (col("id") % 2).as("label"), lit(true).as("held"))

  private def spec(workers: Int, validation: Validation = Validation.NoRows): FitSpec =
    FitSpec(ModelFiles(Array.emptyByteArray), Columns(Seq("x"), Map.empty, Seq("label"), Map.empty, None, "error"), "{}", validation, workers, 42L, shuffle = true, InputMode.Spark, None)

  /** Each partition's x values and validation flags. */
  private def read(input: FitInput): Seq[Seq[(Long, Boolean)]] =
    input.rows.map(row => (row.getLong(0), row.getBoolean(2))).glom().collect().map(_.toSeq).toSeq

  test("as many partitions as workers are used as they are, without a shuffle") {
    val input = FitInput.of(numbers(2), spec(2))
    assert(read(input).map(_.map(_._1)) == Seq(0L until 50L, 50L until 100L))
    assert(!input.rows.toDebugString.contains("Shuffled"))
    assert(input.schema.fieldNames.toSeq == Seq("x", "label"))
  }

  test("other numbers of partitions are dealt out evenly, in the same order every time") {
    val parts = read(FitInput.of(numbers(5), spec(2)))
    assert(parts.map(_.size).forall(size => size >= 45 && size <= 55))
    assert(parts.flatten.map(_._1).sorted == (0L until 100L))
    assert(parts == read(FitInput.of(numbers(5), spec(2))))
    assert(parts.forall(part => part.map(_._1) == part.map(_._1).sorted))
  }

  /** The same rows in the same partitions, in the order in which a shuffle happens to deliver them. */
  private def arriving(inOrder: Boolean): DataFrame = {
    val ids = spark.range(0, 100, 1, 1)
    val sent = if (inOrder) ids else ids.sort(col("id").desc)
    numbersOf(sent).repartition(2, col("x"))
  }

  test("the order in which rows arrive from a shuffle does not matter, nor for which rows validate") {
    for (workers <- Seq(2, 3)) {
      def rows(inOrder: Boolean) = read(FitInput.of(arriving(inOrder), spec(workers, Validation.Fraction(0.3))))
      assert(rows(inOrder = true) == rows(inOrder = false))
    }
    assert(read(FitInput.of(arriving(true), spec(2))) != Seq(0L until 50L, 50L until 100L))
  }

  test("without shuffling the order is the user's, also of rows that were cached") {
    val sorted = numbers(4).repartition(3).orderBy(col("x")).limit(50).coalesce(1).cache()
    try {
      assert(read(FitInput.of(sorted, spec(1).copy(shuffle = false))).flatten.map(_._1) == (0L until 50L))
      assert(RowOrder.isSorted(sorted))
      assert(!RowOrder.isSorted(numbers(4).repartition(3)))
      assert(read(FitInput.of(sorted, spec(1))).flatten.map(_._1).sorted == (0L until 50L))
    } finally sorted.unpersist()
  }

  test("what comes before is computed once, with adaptive execution or without") {
    for (adaptive <- Seq("true", "false"); workers <- Seq(1, 2, 3)) {
      spark.conf.set("spark.sql.adaptive.enabled", adaptive)
      try {
        val calls = spark.sparkContext.longAccumulator
        val counted = udf { (x: Long) => calls.add(1); x }
        val shuffled = numbers(2).withColumn("x", counted(col("x"))).repartition(4, col("x"))
        val rows = read(FitInput.of(shuffled, spec(workers)))
        assert(rows.flatten.size == 100)
        assert(calls.value == 100, s"adaptive $adaptive, $workers workers")
      } finally spark.conf.unset("spark.sql.adaptive.enabled")
    }
  }

  test("rows that Spark may compute otherwise are known, and taken with a warning") {
    val dealt = numbers(3).repartition(2, col("x")).rdd.repartition(2)
    val random = spark.createDataFrame(dealt, numbers(1).schema)
    assert(RowOrder.of(SparkInternals.rows(random)) == RowOrder.Random)
    assert(read(FitInput.of(random, spec(2))).flatten.size == 100)
  }

  test("a plan that Spark refuses in a barrier stage is shuffled first") {
    val coalesced = FitInput.of(numbers(4).coalesce(2), spec(2))
    assert(coalesced.rows.barrier().mapPartitions(rows => Iterator(rows.size)).repartition(1).collect().sum == 100)
  }

  test("a plan that Spark knows to be empty has no partitions to train on, and is refused") {
    val error = intercept[DataException](FitInput.of(numbers(2).where(lit(false)), spec(2)))
    assert(error.getMessage == "the training data has no rows")
  }

  test("an indicator column marks validation rows") {
    assert(read(FitInput.of(numbers(2), spec(2, Validation.Indicated("held")))).flatten.forall(_._2))
  }

  test("a fraction of the rows is drawn with the seed") {
    def drawn: Seq[(Long, Boolean)] = read(FitInput.of(numbers(2), spec(2, Validation.Fraction(0.2)))).flatten
    assert(drawn.count(_._2) > 5 && drawn.count(_._2) < 40)
    assert(drawn == drawn)
  }

  test("a column whose name has dots is one column") {
    val dotted = numbers(2).withColumnRenamed("x", "a.b")
    val input = FitInput.of(dotted, spec(2).copy(columns = Columns(Seq("a.b"), Map.empty, Seq("label"), Map.empty, None, "error")))
    assert(input.schema.fieldNames.head == "a.b")
  }
}
