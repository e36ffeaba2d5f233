// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.net.Socket
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.atomic.AtomicBoolean

import scala.jdk.CollectionConverters._
import scala.util.{Try, Using}

import org.apache.logging.log4j.{Level, LogManager}
import org.apache.logging.log4j.core.{LogEvent, Logger}
import org.apache.logging.log4j.core.appender.AbstractAppender
import org.apache.logging.log4j.core.config.{Configurator, Property}
import org.scalatest.time.SpanSugar._

import io.flambeau.{Samples, SparkSuite}

class NativeLogSuite extends SparkSuite {
  private val lines = new ConcurrentLinkedQueue[String]

  private val appender = new AbstractAppender("lines", null, null, true, Property.EMPTY_ARRAY) {
    override def append(event: LogEvent): Unit = lines.add(s"${event.getLevel} ${event.getMessage.getFormattedMessage}")
  }

  /** Knocks at the ranks' ports while `body` runs. */
  private def knocking[T](body: => T): T = {
    val over = new AtomicBoolean
    val host = spark.conf.get("spark.driver.host")
    val stranger = new Thread(() =>
      while (!over.get) {
        for (port <- 28400 to 28404) Try(Using.resource(new Socket(host, port))(_.getOutputStream.write("GET /\r\n".getBytes)))
      })
    stranger.start()
    try body
    finally {
      over.set(true)
      stranger.join()
    }
  }

  test("what native code logs is in Spark's log, with rank, thread and run") {
    val name = "io.flambeau.native"
    Configurator.setLevel(name, Level.INFO)
    appender.start()
    LogManager.getLogger(name).asInstanceOf[Logger].addAppender(appender)
    failAfter(120.seconds) {
      val data = Samples.points(spark, 100, 2)
      def told = lines.asScala.exists(_.matches("""WARN \[flambeau-[01] control of run [-0-9a-f]{36}\] turned away .*"""))
      knocking {
        // The ranks listen for an instant only.
        while (!told) Samples.estimator(2).setEpochs(1).fit(data)
      }
    }
  }
}
