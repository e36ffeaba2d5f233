// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}

import org.apache.spark.BarrierTaskContext
import org.apache.spark.broadcast.Broadcast
import org.apache.spark.sql.flambeau.{ArrowSchema, SparkInternals}
import org.apache.spark.sql.types.StructType
import org.apache.spark.util.{CollectionAccumulator, SerializableConfiguration}
import org.json4s.{DefaultFormats, Formats, JNull, JObject, JString, JValue}
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.parse
import org.slf4j.LoggerFactory

import io.flambeau.{DataException, FlambeauException}
import io.flambeau.jni.{Columns, NativeLibrary, Session}

/**
 * What every rank runs: feed its rows to a native session, and follow its events until training is
 * done. Rank 0 also copies its files to the model directory.
 *
 * @param schema the session's columns; each row has one more field, true for validation rows
 * @param model Keras JSON (UTF-8), .keras or .h5 bytes
 * @param weights the files of initial weights one after the other, or none
 */
private[train] final case class FitTask(
    owner: ModelDirectory.Owner,
    columns: Columns,
    schema: StructType,
    training: String,
    cluster: ClusterSettings,
    modelDir: Option[String],
    keepCheckpoints: Int,
    microBatch: Option[MicroBatch],
    secret: JobSecret,
    model: Broadcast[Array[Byte]],
    weights: Broadcast[Array[Byte]],
    hadoop: SerializableConfiguration,
    progress: CollectionAccumulator[String]) {
  import FitTask._

  def run(source: RankSource): Iterator[Outcome] = {
    val context = BarrierTaskContext.get()
    val started = System.nanoTime()
    // Without the library a rank cannot tell its peers anything: it fails at once, and Spark then
    // ends their tasks.
    NativeLibrary.load()
    val outcome =
      try train(source, context, started)
      catch {
        case error: FlambeauException if LeaveTogether.waitsForPeers(error) =>
          // Spark may end this task before anybody is told.
          log.error(s"this rank ends: ${error.getMessage}")
          Failed(context.partitionId(), error)
      }
    Iterator(LeaveTogether.settle(outcome, context))
  }

  /** Of rank 0, until the task ends. */
  private def openDirectory(context: BarrierTaskContext): Option[DirectoryWorker] =
    modelDir.filter(_ => context.partitionId() == 0).map { location =>
      val directory = new ModelDirectory(location, owner, hadoop.value, keepCheckpoints)
      val worker = new DirectoryWorker(directory, () => context.isInterrupted())
      context.addTaskCompletionListener[Unit](_ => worker.close())
      worker
    }

  /** On rank 0, a copy of the checkpoint that an earlier attempt, run or micro-batch left. */
  private def resumed(directory: Option[DirectoryWorker], context: BarrierTaskContext, localDir: Path): Option[Path] =
    for {
      worker <- directory
      if context.stageAttemptNumber() > 0 || owner.goesOn || microBatch.exists(part => !Session.holds(part.stream, part.number))
      name <- worker.ask(_.checkpoint())
    } yield {
      val local = localDir.resolve(s"resumed-$name")
      worker.ask(_.fetch(name, local))
      local
    }

  private def train(source: RankSource, context: BarrierTaskContext, started: Long): Outcome = {
    val localDir = SparkInternals.createLocalDir()
    context.addTaskCompletionListener[Unit](_ => SparkInternals.deleteLocalDir(localDir))
    val directory = openDirectory(context)
    val document = config(context, localDir, resumed(directory, context, localDir))
    val session = Session.open(document, ArrowSchema.message(schema), model.value, secret.key(), weights.value)
    try {
      val events = new RankEvents(session, directory, new ProgressReport(progress, context.stageAttemptNumber()), started)
      val result = feed(source, session, events, context)
      if (context.partitionId() == 0) {
        if (microBatch.isEmpty) directory.foreach(_.ask(_.end()))
        Trained(resultOf(result, microBatch.isEmpty))
      } else Followed
    } finally session.close()
  }

  private def config(context: BarrierTaskContext, localDir: Path, checkpoint: Option[Path]): JObject = {
    val rank = context.partitionId()
    val hosts = context.getTaskInfos().map(info => hostOf(info.address)).toList
    ("kind" -> "fit") ~
      ("rank" -> rank) ~
      ("threads" -> context.cpus()) ~
      ("local_dir" -> localDir.toString) ~
      ("model_dir" -> modelDir.isDefined) ~
      ("cache_bytes" -> cluster.cacheBytes) ~
      ("collective" ->
        ("run_id" -> owner.run) ~
          ("stage_id" -> context.stageId()) ~
          ("stage_attempt" -> context.stageAttemptNumber()) ~
          ("rank" -> rank) ~
          ("world_size" -> hosts.size) ~
          ("hosts" -> hosts) ~
          ("bind_host" -> hosts(rank)) ~
          ("port" -> cluster.port) ~
          ("port_retries" -> cluster.portRetries) ~
          ("rendezvous_timeout_ms" -> cluster.rendezvousTimeoutMs) ~
          ("progress_timeout_ms" -> cluster.progressTimeoutMs) ~
          ("straggler_ms" -> cluster.stragglerMs) ~
          ("transports" -> cluster.transports.name) ~
          ("security" -> cluster.security.name)) ~
      ("columns" -> columns.json) ~
      ("fit" -> parse(training)) ~
      ("micro_batch" -> microBatch.map(part => ("stream" -> part.stream) ~ ("number" -> part.number))) ~
      ("resume" -> checkpoint.fold[JValue](JNull)(path => JString(path.toString)))
  }

  /** Feeds what the source has, once or in every pass until the fit is done, and gives its result. */
  private def feed(source: RankSource, session: Session, events: RankEvents, context: BarrierTaskContext): JValue = {
    val rows = new RowFeed(session, events, schema)
    try {
      source match {
        case once: StreamedRows =>
          if (!once.validates) rows.endValidation()
          rows.take(once.rows)
          rows.endPass()
        case read: ReadRows =>
          var pass = events.firstPass()
          read.readValidation(context)(rows.take)
          rows.endValidation()
          while (!events.isDone) {
            read.readPass(pass, context)(rows.take)
            rows.endPass()
            pass += 1
          }
      }
      events.untilDone()
    } catch {
      case error: DataException => throw error.readFrom(rows.source)
    } finally rows.close()
  }
}

private[train] object FitTask {
  private val log = LoggerFactory.getLogger(classOf[FitTask])
  private implicit val formats: Formats = DefaultFormats

  /** "host:port" of a task as Spark gives it; an IPv6 host keeps its brackets, which native code takes. */
  private def hostOf(address: String): String = address.substring(0, address.lastIndexOf(':'))

  private def resultOf(result: JValue, withModel: Boolean): FitResult = {
    val model = if (withModel) Files.readAllBytes(Path.of((result \ "model").extract[String])) else Array.emptyByteArray
    FitResult(model, History.of(result \ "history"))
  }
}
