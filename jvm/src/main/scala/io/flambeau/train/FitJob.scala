// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.PrintStream
import java.nio.charset.StandardCharsets.UTF_8
import java.util.UUID

import org.apache.hadoop.conf.Configuration
import org.apache.spark.SparkContext
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.Splits
import org.apache.spark.sql.types.StructType
import org.apache.spark.util.SerializableConfiguration
import org.json4s.jackson.JsonMethods.{parse, pretty}
import org.slf4j.LoggerFactory

import io.flambeau.jni.DriverCheck

/**
 * Trains a model with one barrier stage whose tasks are the ranks. Spark never retries a barrier
 * stage that gives a job's result, so the stage is followed by an exchange to one partition. An
 * asynchronous fit is a [[ServedJob]] instead.
 */
object FitJob {
  private val log = LoggerFactory.getLogger(getClass.getName.stripSuffix("$"))

  /**
   * @param progress where to print a line per step or epoch, if anywhere
   * @throws io.flambeau.FlambeauException the failure that came first, on any rank
   */
  def run(data: Dataset[_], spec: FitSpec, progress: Option[PrintStream]): FitResult =
    DirectoryClaim.during(spec.modelDir, data.sparkSession.sparkContext.hadoopConfiguration)(train(data, spec, progress))

  private def train(data: Dataset[_], spec: FitSpec, progress: Option[PrintStream]): FitResult = {
    val spark = data.sparkSession
    val sc = spark.sparkContext
    DriverCheck.fit(spec.columns, data.schema, parse(spec.training), spec.files.model, spec.files.weights)
    spec.servers match {
      case None => SlotCheck.demand(sc, spec.numWorkers, spec.evaluator.isDefined)
      case Some(servers) =>
        if (spec.inputMode == InputMode.Direct && !sc.isLocal) SlotCheck.refuseDynamicAllocation(sc.getConf)
        ServedJob.check(sc, servers, spec.numWorkers)
    }
    val runId = spec.microBatch.fold(UUID.randomUUID().toString)(part => s"stream-${part.stream}")
    val hadoop = new SerializableConfiguration(sc.hadoopConfiguration)
    val owner = ownerOf(ModelDirectory.Owner(runId), spec, hadoop.value, progress)
    val (sources, schema, held) = sourcesOf(data, spec)

    val accumulator = sc.collectionAccumulator[String]("flambeau progress")
    // Arrays of bytes, which every serializer takes.
    val model = sc.broadcast(spec.files.model)
    val weights = sc.broadcast(Option(spec.files.weights).getOrElse(Array.emptyByteArray))
    val task = FitTask(
      owner, spec.columns, schema, spec.training, spec.device, ClusterSettings.of(spark), spec.modelDir,
      spec.keepCheckpoints, spec.microBatch, JobSecret.create(), model, weights, hadoop, accumulator)
    val printer = progress.map(out => new ProgressReport.Listener(accumulator, new ProgressPrinter(out).show))
    printer.foreach(sc.addSparkListener(_))
    try placed(sc, spec) {
      // Before the run watches its tasks: this one's failures are not the run's.
      val evaluator = held.map(new EvaluatorJob(_, task, progress))
      try {
        val result = Outcome.resultOf(outcomesOf(sources, task, spec, sc))
        printer.foreach(_.finish())
        evaluator.fold(result)(evaluated(_, result, task, spec))
      } finally evaluator.foreach(_.close())
    } finally {
      printer.foreach(sc.removeSparkListener(_))
      model.destroy()
      weights.destroy()
    }
  }

  /** Runs `body`, which starts the fit's jobs, when there are slots for them. */
  private def placed[T](sc: SparkContext, spec: FitSpec)(body: => T): T = {
    val beside = spec.servers.orElse(spec.evaluator.map(_ => 1))
    beside.fold(body)(tasks => SlotQueue.during(sc, tasks + spec.numWorkers)(body))
  }

  /** What the ranks came to. */
  private def outcomesOf(sources: RDD[RankSource], task: FitTask, spec: FitSpec, sc: SparkContext): Seq[Outcome] =
    TaskFailures.of(task.owner.run, sc).watch(sc) {
      spec.servers match {
        case None =>
          val ended = sources.barrier().mapPartitions(own => task.run(own.next()).map(OutcomeBytes.encode))
          sc.runJob(ended.repartition(1), OutcomeBytes.join(_: Iterator[Array[Byte]])).toSeq.flatMap(OutcomeBytes.split)
        case Some(servers) =>
          if (spec.inputMode == InputMode.Direct) Splits.allowAnyTask(sc)
          ServedJob.run(sources, servers, task)
      }
    }

  /** `result` with what the evaluator has to say, in the model directory, too. */
  private def evaluated(evaluator: EvaluatorJob, result: FitResult, task: FitTask, spec: FitSpec): FitResult = {
    val complete = evaluator.complete(result, spec.evaluator.getOrElse(1), task.cluster.progressTimeoutMs)
    val history = pretty(History.json(complete.history)).getBytes(UTF_8)
    spec.modelDir.foreach { location =>
      new ModelDirectory(location, task.owner, task.hadoop.value, spec.keepCheckpoints).replace("history.json", history)
    }
    complete
  }

  /** The run as the owner of its model directory; says so where it goes on from what is there. */
  private def ownerOf(
      run: ModelDirectory.Owner,
      spec: FitSpec,
      hadoop: Configuration,
      progress: Option[PrintStream]): ModelDirectory.Owner =
    spec.modelDir.fold(run) { location =>
      val directory = new ModelDirectory(location, run, hadoop, spec.keepCheckpoints)
      directory.checkWritable()
      val owner = directory.succession(spec.resume && spec.microBatch.isEmpty)
      new ModelDirectory(location, owner, hadoop, spec.keepCheckpoints).checkpoint().filter(_ => owner.goesOn).foreach { name =>
        val line = s"modelDir $location holds a fit that was interrupted: this one goes on from its $name (resume=false starts anew)"
        log.info(line)
        progress.foreach(_.println(line))
      }
      owner
    }

  /** One for each rank, the schema of their rows without the last field, and the rows of an evaluator. */
  private def sourcesOf(data: Dataset[_], spec: FitSpec): (RDD[RankSource], StructType, Option[RDD[InternalRow]]) =
    spec.inputMode match {
      case InputMode.Spark =>
        val FitInput(rows, schema) = FitInput.of(data, spec)
        val validates = schema.length
        def sources(rows: RDD[InternalRow], validate: Boolean): RDD[RankSource] =
          rows.mapPartitions(own => Iterator[RankSource](new StreamedRows(own, validate)))
        if (spec.evaluator.isEmpty) (sources(rows, spec.validation != Validation.NoRows), schema, None)
        else {
          val held = rows.filter(_.getBoolean(validates)).coalesce(1)
          (sources(rows.filter(!_.getBoolean(validates)), validate = false), schema, Some(held))
        }
      case InputMode.Direct =>
        val (sources, schema) = DirectInput.of(data, spec)
        (sources, schema, spec.evaluator.map(_ => DirectInput.held(data, spec)))
    }
}
