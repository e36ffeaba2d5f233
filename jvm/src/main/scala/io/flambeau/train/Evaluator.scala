// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.nio.file.{Files, Path}

import scala.annotation.tailrec

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.types.StructType
import org.json4s.JObject

import io.flambeau.jni.Session

/**
 * Measures the checkpoints of a fit that trains elsewhere, as they come to its model directory, until the
 * directory says that the fit has ended. One that is gone before its turn is left out.
 *
 * @param scratch a local folder
 */
private[train] final class Evaluator(session: Session, directory: DirectoryWorker, events: RankEvents, scratch: Path) {
  import Evaluator._

  private var seen = Set.empty[Long]

  /** What came of it, by epochs. Each row has the session's columns and one field more, which is true. */
  def run(rows: Iterator[InternalRow], schema: StructType): Seq[JObject] = {
    val feed = new RowFeed(session, events, schema)
    try {
      feed.take(rows)
      feed.endValidation()
      follow()
      feed.endPass()
      events.untilDone()
      events.evaluations
    } finally feed.close()
  }

  @tailrec
  private def follow(): Unit = {
    val (steps, ended) = directory.ask(_.progress())
    val fresh = steps.filterNot(seen)
    fresh.foreach(measure)
    if (fresh.isEmpty) {
      // Sees, too, whether the task is to end.
      events.handlePending()
      if (!ended) Thread.sleep(PollMillis)
    }
    if (fresh.nonEmpty || !ended) follow()
  }

  private def measure(step: Long): Unit = {
    seen += step
    val local = scratch.resolve(s"evaluated-$step.safetensors")
    if (directory.ask(_.fetchIfKept(step, local))) {
      session.evaluate(local)
      events.untilEvaluated(step)
      Files.delete(local)
    }
  }
}

private[train] object Evaluator {
  private val PollMillis = 500L
}
