// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}

import scala.annotation.tailrec

import org.json4s.{DefaultFormats, Formats, JObject, JValue}
import org.json4s.JsonDSL._

import io.flambeau.jni.Session

/**
 * Follows one session's events: progress goes to the driver, finished files to the model
 * directory in the order they come, which is the order they must appear in.
 *
 * @param directory of rank 0, which has one
 * @param taskStarted `System.nanoTime` at the start of the task
 */
private[train] final class RankEvents(
    session: Session,
    directory: Option[DirectoryWorker],
    report: ProgressReport,
    taskStarted: Long) {
  import RankEvents._

  private var result: Option[JValue] = None
  private var measured = Map.empty[Long, JObject]
  private var fedFrom: Option[Int] = None

  /** Whether training is over. */
  def isDone: Boolean = result.isDefined

  /** Handles events until the session says which pass over the rows comes first. */
  @tailrec
  def firstPass(): Int = fedFrom match {
    case Some(pass) => pass
    case None =>
      session.poll(PollMillis).foreach(handle)
      firstPass()
  }

  /** What an evaluator has measured so far, in order. */
  def evaluations: Seq[JObject] = measured.toSeq.sortBy(_._1).map(_._2)

  /** Handles events until an evaluator has measured the checkpoint after so many steps. */
  @tailrec
  def untilEvaluated(step: Long): Unit = if (!measured.contains(step)) {
    session.poll(PollMillis).foreach(handle)
    untilEvaluated(step)
  }

  /** Handles what has happened so far, without waiting. */
  @tailrec
  def handlePending(): Unit = session.poll(0) match {
    case Some(event) =>
      handle(event)
      handlePending()
    case None =>
  }

  /** Handles events until the session is done, and gives its result. */
  @tailrec
  def untilDone(): JValue = result match {
    case Some(done) => done
    case None =>
      session.poll(PollMillis).foreach(handle)
      untilDone()
  }

  private def handle(event: JValue): Unit = {
    directory.foreach(_.check())
    handleKind(text(event, "event"), event)
  }

  private def handleKind(kind: String, event: JValue): Unit = (kind, event) match {
    case ("started", _) =>
      report.add(("event" -> "started") ~ ("seconds" -> (System.nanoTime() - taskStarted) / NanosPerSecond))
    case ("feed", _) => fedFrom = Some((event \ "pass").extract[Int])
    case ("step" | "epoch" | "warning" | "staleness", progress: JObject) => report.add(progress)
    case ("evaluated", measurement: JObject) =>
      measured += (measurement \ "step").extract[Long] -> measurement
      if ((measurement \ "epoch").toOption.isDefined) report.add(measurement)
    case ("file", _) => start(_.commit(Path.of(text(event, "path")), text(event, "name")))
    case ("remove", _) =>
      start { directory =>
        Files.deleteIfExists(Path.of(text(event, "path")))
        directory.remove(text(event, "name"))
      }
    case ("done", _) =>
      directory.foreach(_.finish())
      result = Some(event \ "result")
    case _ =>
  }

  /** Has the directory do something, unless the session ends while there is no room for more. */
  private def start(work: ModelDirectory => Unit): Unit = directory.foreach { directory =>
    while (!directory.hasRoom && !session.isOver) {}
    if (!session.isOver) directory.start(work)
  }
}

private[train] object RankEvents {
  private val PollMillis = 200
  private val NanosPerSecond = 1e9
  private implicit val formats: Formats = DefaultFormats

  private def text(event: JValue, field: String): String = (event \ field).extract[String]
}
