// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.PrintStream
import java.util.UUID

import org.apache.hadoop.conf.Configuration
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.flambeau.Splits
import org.apache.spark.sql.types.StructType
import org.apache.spark.util.SerializableConfiguration
import org.json4s.jackson.JsonMethods.parse
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
  def run(data: Dataset[_], spec: FitSpec, progress: Option[PrintStream]): FitResult = {
    val spark = data.sparkSession
    val sc = spark.sparkContext
    DriverCheck.fit(spec.columns, data.schema, parse(spec.training), spec.files.model, spec.files.weights)
    spec.servers match {
      case None => SlotCheck.demand(sc, spec.numWorkers)
      case Some(servers) =>
        if (spec.inputMode == InputMode.Direct && !sc.isLocal) SlotCheck.refuseDynamicAllocation(sc.getConf)
        ServedJob.check(sc, servers, spec.numWorkers)
    }
    val runId = spec.microBatch.fold(UUID.randomUUID().toString)(part => s"stream-${part.stream}")
    val hadoop = new SerializableConfiguration(sc.hadoopConfiguration)
    val owner = ownerOf(ModelDirectory.Owner(runId), spec, hadoop.value, progress)
    val (sources, schema) = sourcesOf(data, spec)

    val accumulator = sc.collectionAccumulator[String]("flambeau progress")
    // Arrays of bytes, which every serializer takes.
    val model = sc.broadcast(spec.files.model)
    val weights = sc.broadcast(Option(spec.files.weights).getOrElse(Array.emptyByteArray))
    val task = FitTask(
      owner, spec.columns, schema, spec.training, ClusterSettings.of(spark), spec.modelDir,
      spec.keepCheckpoints, spec.microBatch, JobSecret.create(), model, weights, hadoop, accumulator)
    val printer = progress.map(out => new ProgressReport.Listener(accumulator, new ProgressPrinter(out).show))
    printer.foreach(sc.addSparkListener(_))
    try {
      val outcomes = TaskFailures.of(runId, sc).watch(sc) {
        spec.servers match {
          case None =>
            val ended = sources.barrier().mapPartitions(own => task.run(own.next()).map(OutcomeBytes.encode))
            sc.runJob(ended.repartition(1), OutcomeBytes.join(_: Iterator[Array[Byte]])).toSeq.flatMap(OutcomeBytes.split)
          case Some(servers) =>
            if (spec.inputMode == InputMode.Direct) Splits.allowAnyTask(sc)
            ServedJob.run(sources, servers, task)
        }
      }
      printer.foreach(_.finish())
      Outcome.resultOf(outcomes)
    } finally {
      printer.foreach(sc.removeSparkListener(_))
      model.destroy()
      weights.destroy()
    }
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

  /** One for each rank, and the schema of their rows without the last field. */
  private def sourcesOf(data: Dataset[_], spec: FitSpec): (RDD[RankSource], StructType) = spec.inputMode match {
    case InputMode.Spark =>
      val input = FitInput.of(data, spec)
      val validates = spec.validation != Validation.NoRows
      (input.rows.mapPartitions(rows => Iterator[RankSource](new StreamedRows(rows, validates))), input.schema)
    case InputMode.Direct => DirectInput.of(data, spec)
  }
}
