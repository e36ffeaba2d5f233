// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions.{col, lit}

import io.flambeau.{DataException, SparkSuite}
import io.flambeau.jni.Columns

class FitInputSuite extends SparkSuite {

  private def numbers(partitions: Int): DataFrame =
    spark.range(0, 100, 1, partitions).select(col("id").as("x"), (col("id") % 2).as("label"), lit(true).as("held"))

  private def spec(workers: Int, validation: Validation = Validation.NoRows): FitSpec =
    FitSpec(ModelFiles(Array.emptyByteArray), Columns(Seq("x"), Map.empty, Seq("label"), Map.empty, None, "error"), "{}", validation, workers, 42L, None)

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
