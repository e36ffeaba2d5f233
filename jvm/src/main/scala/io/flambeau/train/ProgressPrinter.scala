// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.PrintStream
import java.util.Locale

import org.json4s.{DefaultFormats, Formats, JObject, JValue}

/** Prints one line for each step or epoch that rank 0 reports. */
private[train] final class ProgressPrinter(out: PrintStream) {
  import ProgressPrinter._

  def show(event: JObject): Unit = out.println(line(event))
}

private[train] object ProgressPrinter {
  private implicit val formats: Formats = DefaultFormats

  /** For example `epoch 1/3 step 120 loss 0.4123 accuracy 0.8512 15,120 rows/s 0:12 left`. */
  def line(event: JObject): String = (event \ "event").extract[String] match {
    case "started" => s"first step ${decimals(History.number(event \ "seconds"), 1)} s after its task started"
    case "warning" => s"warning: ${(event \ "message").extract[String]}"
    case "evaluated" => s"evaluator: epoch ${whole(event \ "epoch")} ${logs(event).mkString(" ")}"
    case "staleness" => stalenessLine(event \ "updates")
    case kind => progressLine(kind, event)
  }

  /** For example `updates by staleness: 0: 57.1 %, 1: 40.4 %, 2: 2.5 %`. */
  private def stalenessLine(updates: JValue): String = {
    val counts = updates.extract[Map[String, Long]].toSeq.map { case (stale, count) => stale.toLong -> count }.sorted
    val all = counts.map(_._2).sum
    counts
      .map { case (stale, count) => s"$stale: ${decimals(100.0 * count / all, 1)} %" }
      .mkString("updates by staleness: ", ", ", "")
  }

  private def progressLine(kind: String, event: JObject): String = {
    val epochs = (event \ "epochs").extractOpt[Long].fold("")(total => s"/$total")
    val epoch = s"epoch ${whole(event \ "epoch")}$epochs"
    val parts = kind match {
      case "epoch" => Seq(epoch, s"done in ${decimals(History.number(event \ "seconds"), 1)} s") ++ logs(event)
      case _ =>
        val steps = (event \ "steps").extractOpt[Long].fold("")(total => s"/$total")
        val left = (event \ "seconds_left").extractOpt[Double].map(seconds => s"${clock(seconds.round)} left")
        Seq(epoch, s"step ${whole(event \ "step")}$steps") ++ logs(event) ++
          Seq("%,d rows/s".formatLocal(Locale.ROOT, History.number(event \ "rows_per_second").round)) ++ left
    }
    parts.mkString(" ")
  }

  private def logs(event: JValue): Seq[String] = event \ "logs" match {
    case JObject(fields) => fields.map { case (metric, value) => s"$metric ${decimals(History.number(value), 4)}" }
    case _ => Nil
  }

  private def whole(value: JValue): Long = value.extract[Long]

  private def decimals(value: Double, digits: Int): String = s"%.${digits}f".formatLocal(Locale.ROOT, value)

  private def clock(seconds: Long): String = {
    val (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60)
    if (hours > 0) f"$hours:$minutes%02d:$rest%02d" else f"$minutes:$rest%02d"
  }
}
