// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.SparkConf
import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.ConfigException

class ClusterSettingsSuite extends AnyFunSuite {

  private def default(local: Boolean, settings: (String, String)*): Long =
    ClusterSettings.defaultCacheMiB(new SparkConf(false).setAll(settings), local)

  test("the cache takes half of what Spark leaves outside the heap") {
    assert(default(local = false) == 192)
    assert(default(local = false, "spark.executor.memory" -> "16g") == 819)
    assert(default(local = false, "spark.executor.memory" -> "16g", "spark.executor.memoryOverheadFactor" -> "0.5") == 4096)
    assert(default(local = false, "spark.executor.memory" -> "16g", "spark.executor.memoryOverhead" -> "3g") == 1536)
    assert(default(local = false, "spark.executor.minMemoryOverhead" -> "1g") == 512)
    assert(default(local = true, "spark.executor.memoryOverhead" -> "3g") == 192)
    assert(default(local = true, "spark.driver.memoryOverhead" -> "3g") == 1536)
  }

  test("ranks of an executor share it, and each has a mebibyte") {
    assert(ClusterSettings.cacheBytes(executor = 8L << 30, ranks = 4) == 2L << 30)
    assert(ClusterSettings.cacheBytes(executor = 1L << 20, ranks = 4) == 1L << 20)
  }

  test("transports are auto or tcp, and another name is refused with those there are") {
    def of(settings: (String, String)*): Transports = Transports.of(settings.toMap.get)
    assert(of() == Transports.Auto && of(Transports.Key -> "auto") == Transports.Auto)
    assert(of(Transports.Key -> " tcp ") == Transports.Tcp)
    val message = intercept[ConfigException](of(Transports.Key -> "rdma")).getMessage
    assert(message.startsWith("spark.flambeau.transports is 'rdma'. Try: auto, ") && message.contains("or tcp"))
  }
}
