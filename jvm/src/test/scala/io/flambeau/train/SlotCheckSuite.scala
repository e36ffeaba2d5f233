// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.SparkConf
import org.scalatest.time.SpanSugar._

import io.flambeau.{ConfigException, SparkSuite}

class SlotCheckSuite extends SparkSuite {

  private def slots(master: String, settings: (String, String)*): Option[Int] =
    SlotCheck.declared(master, new SparkConf(false).setAll(settings)).map(_.slots)

  test("slots follow from the master or the executors that are asked for") {
    assert(slots("local-cluster[2,3,1024]").contains(6))
    assert(slots("local-cluster[2,3,1024]", "spark.task.cpus" -> "2").contains(2))
    assert(slots("yarn", "spark.executor.instances" -> "4", "spark.executor.cores" -> "2").contains(8))
    assert(slots("spark://host:7077", "spark.cores.max" -> "6", "spark.executor.cores" -> "2").contains(6))
    assert(slots("yarn").isEmpty)
  }

  test("more workers than slots are refused within two seconds, with the numbers") {
    val error = failAfter(2.seconds)(intercept[ConfigException](SlotCheck.demand(spark.sparkContext, 3)))
    assert(error.getMessage.contains("numWorkers=3 needs 3 task slots at once, but there are 2 (master local[2])"))
    assert(error.getMessage.contains("Try: numWorkers=2"))
  }

  test("dynamic allocation is refused with the setting to change") {
    val conf = new SparkConf(false).set("spark.dynamicAllocation.enabled", "true")
    val error = intercept[ConfigException](SlotCheck.refuseDynamicAllocation(conf))
    assert(error.getMessage.endsWith("Try: --conf spark.dynamicAllocation.enabled=false"))
    SlotCheck.refuseDynamicAllocation(new SparkConf(false))
  }

  test("as many workers as slots are accepted") {
    SlotCheck.demand(spark.sparkContext, 2)
  }
}
