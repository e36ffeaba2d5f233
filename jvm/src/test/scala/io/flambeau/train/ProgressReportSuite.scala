// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import scala.collection.mutable.ArrayBuffer

import org.json4s.{JObject, JString}
import org.json4s.JsonDSL._

import io.flambeau.SparkSuite

class ProgressReportSuite extends SparkSuite {
  private def event(kind: String, name: String): JObject = ("event" -> kind) ~ ("name" -> name)

  test("every epoch and the newest step are shown once, in order, over all attempts") {
    val accumulator = spark.sparkContext.collectionAccumulator[String]("progress")
    val shown = ArrayBuffer.empty[String]
    val listener = new ProgressReport.Listener(accumulator, event => shown += (event \ "name").asInstanceOf[JString].s)
    val first = new ProgressReport(accumulator, 0)
    first.add(event("step", "step 1"))
    first.add(event("step", "step 2"))
    listener.finish()
    first.add(event("epoch", "epoch 1"))
    first.add(event("epoch", "epoch 2"))
    first.add(event("step", "step 3"))
    listener.finish()
    listener.finish()
    new ProgressReport(accumulator, 1).add(event("epoch", "epoch 2 again"))
    listener.finish()
    assert(shown == Seq("step 2", "epoch 1", "epoch 2", "step 3", "epoch 2 again"))
  }
}
