// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.nio.charset.StandardCharsets.UTF_8

import scala.util.Using

import org.apache.hadoop.fs.Path
import org.apache.spark.ml.util.{MLReader, MLWriter}
import org.json4s.jackson.JsonMethods.{compact, parse}

import io.flambeau.train.History

/**
 * A saved [[KerasModel]]: Spark ML's own `metadata`, beside it `model.keras`, which Keras can open
 * too, and `history.json`.
 */
private[ml] object KerasModelFiles {
  private val ModelFile = "model.keras"
  private val HistoryFile = "history.json"

  final class Writer(params: MLWriter, keras: Array[Byte], history: Map[String, Array[Double]]) extends MLWriter {
    override protected def saveImpl(path: String): Unit = {
      params.session(sparkSession).save(path)
      write(new Path(path, ModelFile), keras)
      write(new Path(path, HistoryFile), compact(History.json(history)).getBytes(UTF_8))
    }

    private def write(file: Path, bytes: Array[Byte]): Unit =
      Using.resource(file.getFileSystem(sc.hadoopConfiguration).create(file))(_.write(bytes))
  }

  final class Reader(params: MLReader[KerasModel]) extends MLReader[KerasModel] {
    override def load(path: String): KerasModel = {
      val history = parse(new String(read(new Path(path, HistoryFile)), UTF_8))
      params.session(sparkSession).load(path).trained(read(new Path(path, ModelFile)), History.of(history))
    }

    private def read(file: Path): Array[Byte] =
      ModelSource.readFile(file.toString, sc.hadoopConfiguration)
  }
}
