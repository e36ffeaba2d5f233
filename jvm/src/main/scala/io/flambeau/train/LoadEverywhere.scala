// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.BarrierTaskContext

import io.flambeau.{FlambeauException, NativeLoadException, PeerFailedException}
import io.flambeau.jni.NativeLibrary

/**
 * Loads the native library on every rank and lets all of them know how that went, through Spark:
 * a rank without it cannot tell its peers, which would wait for it.
 */
private[train] object LoadEverywhere {

  /** Why this fit cannot start, if any rank failed. */
  def failure(context: BarrierTaskContext): Option[FlambeauException] = {
    val own =
      try {
        NativeLibrary.load()
        None
      } catch { case error: NativeLoadException => Some(error) }
    val failures = context.allGather(own.fold("")(_.getMessage)).zipWithIndex
    own.orElse(failures.collectFirst {
      case (failure, rank) if failure.nonEmpty => new PeerFailedException(s"rank $rank: $failure")
    })
  }
}
