// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.util.WeakHashMap

import org.apache.spark.SparkContext
import org.apache.spark.sql.flambeau.SparkInternals

/**
 * Lets fits whose tasks are of several jobs start one after the other where there are too few slots for
 * all: else the servers of some could hold what the workers of others wait for. A fit of one barrier
 * stage needs no such place, as Spark starts its tasks all or none.
 */
private[train] object SlotQueue {
  private val PollMillis = 200L

  private val held = new WeakHashMap[SparkContext, Int]

  /** Runs `body`, whose jobs have so many tasks, once the other fits here leave slots for them. */
  def during[T](sc: SparkContext, tasks: Int)(body: => T): T = {
    val taken = take(sc, tasks)
    try body
    finally give(sc, taken)
  }

  private def take(sc: SparkContext, tasks: Int): Int = synchronized {
    // More tasks than slots have their turns within the fit.
    def wanted = tasks.min(SparkInternals.slots(sc))
    while (held.getOrDefault(sc, 0) > 0 && held.get(sc) + wanted > SparkInternals.slots(sc)) wait(PollMillis)
    val taken = wanted
    held.merge(sc, taken, _ + _)
    taken
  }

  private def give(sc: SparkContext, taken: Int): Unit = synchronized {
    held.merge(sc, -taken, _ + _)
    notifyAll()
  }
}
