// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.{OneToOneDependency, Partition, SparkContext, TaskContext}
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.{DataFrame, Dataset}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{RowOrder, SparkInternals, Splits}
import org.apache.spark.sql.functions.{lit, rand}
import org.apache.spark.sql.types.{BooleanType, StructType}
import org.slf4j.LoggerFactory

import io.flambeau.DataException
import io.flambeau.jni.Columns

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
    val training = readable(selected)
    if (training.getNumPartitions == 0) throw new DataException("the training data has no rows")
    if (training.getNumPartitions < spec.replicas) {
      log.warn(
        s"the training data is read in ${training.getNumPartitions} parts, so that only as many of the " +
          s"${spec.replicas} workers that read have rows. Try: more files, or a lower spark.sql.files.maxPartitionBytes")
    }
    val seed = Option.when(spec.shuffle)(spec.seed)
    val sc = data.sparkSession.sparkContext
    val sources = spec.validation match {
      case _ if spec.evaluator.isDefined =>
        new Dealt(sc, spec.numWorkers, spec.mesh, training, None, seed, validatesAmong = false)
      case Validation.NoRows => new Dealt(sc, spec.numWorkers, spec.mesh, training, None, seed, validatesAmong = false)
      case Validation.Indicated(_) | Validation.Fraction(_) =>
        new Dealt(sc, spec.numWorkers, spec.mesh, training, None, seed, validatesAmong = true)
      case Validation.Rows(held) =>
        new Dealt(sc, spec.numWorkers, spec.mesh, training, Some(FitInput.held(held, spec)), seed, validatesAmong = false)
    }
    (sources, spec.columns.of(selected.schema))
  }

  /** The rows to validate with, in one partition: for an evaluator. */
  def held(data: Dataset[_], spec: FitSpec): RDD[InternalRow] = spec.validation match {
    case Validation.Rows(held) => FitInput.held(held, spec.copy(numWorkers = 1))
    case _ =>
      val columns = FitInput.columnsOf(spec)
      val indicator = columns.length
      SparkInternals.rows(FitInput.marked(data, columns, validates(spec))).filter(_.getBoolean(indicator)).coalesce(1)
  }

  private def validates(spec: FitSpec) = spec.validation match {
    case Validation.NoRows | Validation.Rows(_) => lit(false)
    case Validation.Indicated(name) => Columns.named(name).cast(BooleanType)
    case Validation.Fraction(fraction) => rand(spec.seed) < fraction
  }

  private def readable(data: DataFrame): RDD[InternalRow] = {
    val rows = SparkInternals.rows(data)
    if (!Splits.isReadable(rows)) {
      throw new DataException(
        "inputMode is direct, but the training data comes from a shuffle (a join, a sort, an aggregation, a " +
          "repartition), which only Spark can run. Try: write it to files and train on those, or inputMode spark")
    }
    if (RowOrder.of(rows) != RowOrder.Fixed) {
      log.warn("the training data may have other rows each time it is read: its plan is not deterministic")
    }
    rows
  }

  /**
   * One element in each partition: what the rank of that number reads. The plan of the rows to train
   * on travels with the stage, where Spark counts its metrics, and not with each task.
   *
   * @param held rows that validate, a partition for each rank
   * @param validatesAmong whether some of the rows to train on validate instead
   */
  private final class Dealt(
      sc: SparkContext,
      ranks: Int,
      mesh: MeshShape,
      training: RDD[InternalRow],
      @transient held: Option[RDD[InternalRow]],
      seed: Option[Long],
      validatesAmong: Boolean)
      extends RDD[RankSource](sc, held.map(new OneToOneDependency(_)).toSeq) {

    override protected def getPartitions: Array[Partition] = Array.tabulate(ranks) { rank =>
      val dealt = if (mesh.hasRows(rank)) Splits.dealt(training, ranks / mesh.size, mesh.replica(rank)) else Seq.empty
      new Share(rank, dealt, held.map(_.partitions(rank)))
    }

    override def compute(split: Partition, context: TaskContext): Iterator[RankSource] = {
      val share = split.asInstanceOf[Share]
      val validation = share.held.map(firstParent[InternalRow].iterator(_, context))
      Iterator(new ReadRows(new Splits(training, share.training), validation, seed, validatesAmong))
    }
  }

  private final class Share(val index: Int, val training: Seq[Partition], val held: Option[Partition])
      extends Partition
}
