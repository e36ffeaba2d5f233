// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.{Partition, SparkContext, TaskContext}
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.{DataFrame, Dataset}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{RowOrder, SparkInternals, Splits}
import org.apache.spark.sql.functions.{lit, rand}
import org.apache.spark.sql.types.{BooleanType, StructType}
import org.slf4j.LoggerFactory

import io.flambeau.DataException

/**
 * The rows of a fit whose ranks read them by themselves, in every pass: partitions of the plan,
 * which are pieces of its files, dealt to the ranks once. Which row is where does not change between
 * passes and attempts.
 */
private[train] object DirectInput {
  private val log = LoggerFactory.getLogger(getClass.getName.stripSuffix("$"))

  /** @throws DataException if the plan needs a shuffle, or Spark knows that there are no rows */
  def of(data: Dataset[_], spec: FitSpec): (RDD[RankSource], StructType) = {
    val columns = FitInput.columnsOf(spec)
    def mark(frame: Dataset[_]): DataFrame = FitInput.marked(frame, columns, validates(spec))
    val selected = mark(data)
    val training = readable(selected, "the training data")
    if (training.getNumPartitions == 0) throw new DataException("the training data has no rows")
    if (training.getNumPartitions < spec.numWorkers) {
      log.warn(
        s"the training data is read in ${training.getNumPartitions} parts, so that only as many of the " +
          s"${spec.numWorkers} workers have rows. Try: more files, or a lower spark.sql.files.maxPartitionBytes")
    }
    val validation = spec.validation match {
      case Validation.NoRows => None
      case Validation.Indicated(_) | Validation.Fraction(_) => Some(training)
      case Validation.Rows(held) =>
        Some(readable(FitInput.marked(held, columns, lit(true)), "the validation data"))
    }
    val seed = Option.when(spec.shuffle)(spec.seed)
    val sources = new Dealt(data.sparkSession.sparkContext, spec.numWorkers, training, validation, seed)
    (sources, spec.columns.of(selected.schema))
  }

  private def validates(spec: FitSpec) = spec.validation match {
    case Validation.NoRows | Validation.Rows(_) => lit(false)
    case Validation.Indicated(name) => FitInput.quoted(name).cast(BooleanType)
    case Validation.Fraction(fraction) => rand(spec.seed) < fraction
  }

  private def readable(data: DataFrame, what: String): RDD[InternalRow] = {
    val rows = SparkInternals.rows(data)
    if (!Splits.isReadable(rows)) {
      throw new DataException(
        s"inputMode is direct, but $what comes from a shuffle (a join, a sort, an aggregation, a repartition), which " +
          "only Spark can run. Try: write it to files and train on those, or inputMode spark")
    }
    if (RowOrder.of(rows) != RowOrder.Fixed) {
      log.warn(s"$what may have other rows each time it is read: its plan is not deterministic")
    }
    rows
  }

  /**
   * One element in each partition: what the rank of that number reads. The plans travel with the
   * stage, where Spark counts their metrics, and not with each task.
   */
  private final class Dealt(
      sc: SparkContext,
      ranks: Int,
      training: RDD[InternalRow],
      validation: Option[RDD[InternalRow]],
      seed: Option[Long])
      extends RDD[RankSource](sc, Nil) {

    override protected def getPartitions: Array[Partition] = Array.tabulate(ranks) { rank =>
      new Share(rank, Splits.dealt(training, ranks, rank), validation.toSeq.flatMap(Splits.dealt(_, ranks, rank)))
    }

    override def compute(split: Partition, context: TaskContext): Iterator[RankSource] = {
      val share = split.asInstanceOf[Share]
      Iterator(new ReadRows(new Splits(training, share.training), validation.map(new Splits(_, share.validation)), seed))
    }
  }

  private final class Share(val index: Int, val training: Seq[Partition], val validation: Seq[Partition])
      extends Partition
}
