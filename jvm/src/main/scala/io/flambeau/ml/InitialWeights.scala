// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import java.io.{ByteArrayOutputStream, IOException}

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path

import io.flambeau.ConfigException

/**
 * Weights that a model starts from, as their files hold them.
 *
 * @param lengths bytes of each file
 * @param bytes the files one after the other
 */
private[ml] final case class InitialWeights(lengths: Seq[Int], bytes: Array[Byte])

private[ml] object InitialWeights {

  /**
   * @param location a .keras, .weights.h5 or .h5 file, or the prefix of a checkpoint of TensorFlow
   * @throws ConfigException if there is no such file
   */
  def read(location: String, conf: Configuration): InitialWeights =
    try {
      val path = new Path(location)
      val fs = path.getFileSystem(conf)
      val index = path.suffix(".index")
      val files =
        if (fs.exists(path)) Seq(path)
        else if (fs.exists(index)) index +: shards(path, conf)
        else throw new ConfigException(
          s"initialWeights $location does not exist, nor does $index. Try: the path of a .keras, .weights.h5 or" +
            " .h5 file, or a TensorFlow checkpoint's without .index")
      val bytes = new ByteArrayOutputStream
      val lengths = files.map { file =>
        val content = ModelSource.readFile(file.toString, conf, "initialWeights")
        bytes.write(content)
        content.length
      }
      InitialWeights(lengths, bytes.toByteArray)
    } catch {
      case error @ (_: IOException | _: IllegalArgumentException) =>
        throw new ConfigException(s"initialWeights $location cannot be read: ${error.getMessage}", error)
    }

  /** The data files of a checkpoint in their order, which is that of their names. */
  private def shards(prefix: Path, conf: Configuration): Seq[Path] =
    prefix.getFileSystem(conf).listStatus(prefix.getParent).toSeq
      .map(_.getPath)
      .filter(_.getName.startsWith(s"${prefix.getName}.data-"))
      .sortBy(_.getName)
}
