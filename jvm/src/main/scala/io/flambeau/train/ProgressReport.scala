// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import scala.jdk.CollectionConverters._

import org.apache.spark.scheduler.{SparkListener, SparkListenerExecutorMetricsUpdate}
import org.apache.spark.util.CollectionAccumulator
import org.json4s.{JInt, JObject, JString}
import org.json4s.JsonDSL._
import org.json4s.jackson.JsonMethods.{compact, parse}

/**
 * What rank 0 tells the driver while it trains: the newest milestones (a start, an epoch) and the newest step, carried by
 * Spark's heartbeats in an accumulator of Spark's own class. Each event has an order, as the
 * driver sees most of them many times.
 */
private[train] final class ProgressReport(accumulator: CollectionAccumulator[String], attempt: Int) {
  import ProgressReport._

  private var order = attempt.toLong << 32
  private var milestones = Vector.empty[String]

  def add(event: JObject): Unit = {
    order += 1
    val text = compact(event ~ (OrderKey -> order))
    val told =
      if (event \ "event" == JString("step")) milestones :+ text
      else {
        milestones = (milestones :+ text).takeRight(KeptMilestones)
        milestones
      }
    accumulator.reset()
    told.foreach(accumulator.add)
  }
}

private[train] object ProgressReport {
  private val OrderKey = "order"
  private val KeptMilestones = 32

  /** Shows each event once, in order, as heartbeats bring them. */
  final class Listener(accumulator: CollectionAccumulator[String], show: JObject => Unit) extends SparkListener {
    private var shown = Long.MinValue

    override def onExecutorMetricsUpdate(update: SparkListenerExecutorMetricsUpdate): Unit =
      update.accumUpdates.flatMap(_._4).filter(_.id == accumulator.id).flatMap(_.update).foreach {
        case events: java.util.List[_] => showNew(events)
        case _ =>
      }

    /** What the last heartbeat did not bring. */
    def finish(): Unit = showNew(accumulator.value)

    private def showNew(events: java.util.List[_]): Unit = synchronized {
      events.asScala.map(event => parse(event.toString)).foreach {
        case event: JObject if orderOf(event) > shown =>
          shown = orderOf(event)
          show(event)
        case _ =>
      }
    }
  }

  private def orderOf(event: JObject): Long = event \ OrderKey match {
    case JInt(order) => order.toLong
    case _ => Long.MinValue
  }
}
