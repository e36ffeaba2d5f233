// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.IOException
import java.util.concurrent.ConcurrentHashMap

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path

import io.flambeau.ConfigException

/** The model directories that fits of this driver train into now: of each one fit at a time. */
private[train] object DirectoryClaim {
  private val claimed = ConcurrentHashMap.newKeySet[Path]()

  /**
   * Runs `body`, a fit that trains into `modelDir`.
   *
   * @throws ConfigException if another fit does at this time
   */
  def during[T](modelDir: Option[String], conf: Configuration)(body: => T): T =
    // What is no path is for the fit to say.
    modelDir.flatMap(qualified(_, conf)).fold(body) { path =>
      if (!claimed.add(path)) {
        throw new ConfigException(
          s"modelDir $path: another fit of this application trains into it at this time. Try: a modelDir for each, as " +
            "one of the params of a grid; or none while you search, and then a fit of the best params with one")
      }
      try body
      finally claimed.remove(path)
    }

  private def qualified(location: String, conf: Configuration): Option[Path] =
    try {
      val path = new Path(location)
      Some(path.getFileSystem(conf).makeQualified(path))
    } catch {
      case _: IOException | _: IllegalArgumentException => None
    }
}
