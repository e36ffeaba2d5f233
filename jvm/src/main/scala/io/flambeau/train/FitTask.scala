// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}

import scala.util.control.NonFatal

import org.apache.spark.{BarrierTaskContext, TaskContext, TaskKilledException}
import org.apache.spark.broadcast.Broadcast
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.flambeau.{ArrowSchema, SparkInternals}
import org.apache.spark.sql.types.StructType
import org.apache.spark.util.{CollectionAccumulator, SerializableConfiguration}
import org.json4s.{DefaultFormats, Formats, JNull, JObject, JString, JValue}
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.parse
import org.slf4j.LoggerFactory

import io.flambeau.{CancelledException, DataException, FlambeauException}
import io.flambeau.jni.{Columns, Device, NativeLibrary, Session}

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
    device: Device,
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

  /** As a task of a barrier stage: all ranks train in step. */
  def run(source: RankSource): Iterator[Outcome] = {
    val context = BarrierTaskContext.get()
    val hosts = context.getTaskInfos().map(info => hostOf(info.address)).toList
    val outcome = attempt(source, Place.InStep(context, hosts), LeaveTogether.waitsForPeers)
    Iterator(LeaveTogether.settle(outcome, context))
  }

  /**
   * As a task that Spark retries by itself: ranks train asynchronously. An error that a retry would meet
   * again is a value, as the others have been told and end, too.
   *
   * @param first the rank of the stage's first task
   * @param ranks how many there are in all
   */
  def runByItself(source: RankSource, first: Int, ranks: Int): Iterator[Outcome] = {
    val context = TaskContext.get()
    val place = Place.ByItself(context, first + context.partitionId(), ranks)
    Iterator(attempt(source, place, !_.isRetryable))
  }

  /** As a fit of one worker, which meets nobody. An error that a retry would meet again is a value. */
  def runAlone(source: RankSource): Outcome = attempt(source, Place.Alone(TaskContext.get()), !_.isRetryable)

  /** As the one task that validates checkpoints of a fit elsewhere; all rows are to validate with. */
  def evaluate(rows: Iterator[InternalRow]): Seq[JObject] = {
    NativeLibrary.load()
    val place = Place.Alone(TaskContext.get(), "evaluator" -> true)
    val localDir = scratch(place.context)
    val session = open(place, localDir, None)
    try {
      val directory = openDirectory(place).getOrElse(throw new IllegalStateException("an evaluator without modelDir"))
      val report = new ProgressReport(progress, place.attempt)
      val events = new RankEvents(session, Some(directory), report, System.nanoTime())
      new Evaluator(session, directory, events, localDir).run(rows, schema)
    } finally session.close()
  }

  private def attempt(source: RankSource, place: Place, isValue: FlambeauException => Boolean): Outcome = {
    val started = System.nanoTime()
    // Without the library a rank cannot tell its peers anything: it fails at once, and Spark then
    // ends their tasks.
    NativeLibrary.load()
    try train(source, place, started)
    catch {
      case NonFatal(error) =>
        val killed = place.context.isInterrupted()
        val followsFromThat = error.isInstanceOf[TaskKilledException] || error.isInstanceOf[CancelledException]
        // Spark may end this task before anybody is told, and then keeps to itself what it threw.
        if (!killed || !followsFromThat) log.error(s"this rank ends: ${error.getMessage}")
        error match {
          case known: FlambeauException if !killed && isValue(known) => Failed(place.rank, known)
          case _ => throw error
        }
    }
  }

  /** Of rank 0, until the task ends. */
  private def openDirectory(place: Place): Option[DirectoryWorker] =
    modelDir.filter(_ => place.rank == 0).map { location =>
      val context = place.context
      val directory = new ModelDirectory(location, owner, hadoop.value, keepCheckpoints)
      val worker = new DirectoryWorker(directory, () => context.isInterrupted())
      context.addTaskCompletionListener[Unit](_ => worker.close())
      worker
    }

  /** On rank 0, a copy of the checkpoint that an earlier attempt, run or micro-batch left. */
  private def resumed(directory: Option[DirectoryWorker], place: Place, localDir: Path): Option[Path] =
    for {
      worker <- directory
      if place.attempt > 0 || owner.goesOn || microBatch.exists(part => !Session.holds(part.stream, part.number))
      name <- worker.ask(_.checkpoint())
    } yield {
      val local = localDir.resolve(s"resumed-$name")
      worker.ask(_.fetch(name, local))
      local
    }

  private def train(source: RankSource, place: Place, started: Long): Outcome = {
    val context = place.context
    val localDir = scratch(context)
    val directory = openDirectory(place)
    val session = open(place, localDir, resumed(directory, place, localDir))
    try {
      val events = new RankEvents(session, directory, new ProgressReport(progress, place.attempt), started)
      val result = feed(source, session, events, context)
      if (place.rank == 0) {
        if (microBatch.isEmpty) directory.foreach(_.ask(_.end()))
        Trained(resultOf(result, microBatch.isEmpty))
      } else Followed
    } finally {
      session.close()
      SparkInternals.deleteLocalDir(localDir)
    }
  }

  /** A local folder until the task ends. */
  private def scratch(context: TaskContext): Path = {
    val localDir = SparkInternals.createLocalDir()
    context.addTaskCompletionListener[Unit](_ => if (Files.exists(localDir)) SparkInternals.deleteLocalDir(localDir))
    localDir
  }

  private def open(place: Place, localDir: Path, checkpoint: Option[Path]): Session =
    Session.open(
      config(place, localDir, checkpoint), ArrowSchema.message(schema), model.value, secret.key(), weights.value)

  private def config(place: Place, localDir: Path, checkpoint: Option[Path]): JObject =
    ("kind" -> "fit") ~
      ("rank" -> place.rank) ~
      ("threads" -> place.context.cpus()) ~
      ("device" -> device.json(place.context, place.onHost)) ~
      ("local_dir" -> localDir.toString) ~
      ("model_dir" -> modelDir.isDefined) ~
      ("cache_bytes" -> cluster.cacheBytes) ~
      ("collective" ->
        ("run_id" -> owner.run) ~
          ("rank" -> place.rank) ~
          place.meeting ~
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
      ("resume" -> checkpoint.fold[JValue](JNull)(path => JString(path.toString))) ~
      place.more

  /** Feeds what the source has, once or in every pass until the fit is done, and gives its result. */
  private def feed(source: RankSource, session: Session, events: RankEvents, context: TaskContext): JValue = {
    val rows = new RowFeed(session, events, schema)
    try {
      source match {
        case NoRows =>
          rows.endValidation()
          rows.endPass()
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

  /** Where a rank's task stands among the others. */
  private sealed trait Place {
    def context: TaskContext
    def rank: Int

    /** Counted from 0. */
    def attempt: Int

    /** Which of the tasks on its host it is, as far as it knows of others. */
    def onHost: Int = context.partitionId()

    /** How the ranks meet: fields of the session's `collective`. */
    def meeting: JObject

    /** Further fields of the session. */
    def more: JObject
  }

  private object Place {

    /** In a stage whose tasks run together, on `hosts`. */
    final case class InStep(context: BarrierTaskContext, hosts: List[String]) extends Place {
      override def rank: Int = context.partitionId()
      override def attempt: Int = context.stageAttemptNumber()
      override def onHost: Int = hosts.take(rank).count(_ == hosts(rank))
      override def meeting: JObject =
        ("stage_id" -> context.stageId()) ~
          ("stage_attempt" -> attempt) ~
          ("world_size" -> hosts.size) ~
          ("hosts" -> hosts) ~
          ("bind_host" -> hosts(rank))
      override def more: JObject = JObject()
    }

    /** In a world of one. */
    final case class Alone(context: TaskContext, more: JObject = JObject()) extends Place {
      override def rank: Int = 0
      override def attempt: Int = context.attemptNumber()
      override def meeting: JObject = {
        val host = SparkInternals.executorHosts.head
        ("stage_id" -> 0) ~ ("stage_attempt" -> 0) ~ ("world_size" -> 1) ~ ("hosts" -> List(host)) ~ ("bind_host" -> host)
      }
    }

    /** Of a fit of `ranks` that come and go: the first is looked for on all executors. */
    final case class ByItself(context: TaskContext, rank: Int, ranks: Int) extends Place {
      private val hosts = SparkInternals.executorHosts.toList

      override def attempt: Int = context.attemptNumber()
      override def meeting: JObject =
        // Not Spark's numbers: servers and workers are of two stages.
        ("stage_id" -> 0) ~ ("stage_attempt" -> 0) ~ ("world_size" -> ranks) ~ ("bind_host" -> hosts.head)
      override def more: JObject = ("server_hosts" -> hosts) ~ ("incarnation" -> context.taskAttemptId())
    }
  }

  /** "host:port" of a task as Spark gives it; an IPv6 host keeps its brackets, which native code takes. */
  private def hostOf(address: String): String = address.substring(0, address.lastIndexOf(':'))

  private def resultOf(result: JValue, withModel: Boolean): FitResult = {
    val model = if (withModel) Files.readAllBytes(Path.of((result \ "model").extract[String])) else Array.emptyByteArray
    FitResult(model, History.of(result \ "history"))
  }
}
