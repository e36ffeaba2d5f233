// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.BarrierTaskContext

import io.flambeau.{CollectiveException, FlambeauException}

/**
 * The ranks' way out: all of them return values, or all of them fail and Spark retries the stage.
 * If some tasks of a barrier stage succeeded and others failed, Spark would retry the failed ones
 * alone, which would wait for the others for ever. A rank that died, or threw what concerns itself
 * alone, keeps nobody waiting: Spark then kills the others.
 */
private[train] object LeaveTogether {
  private val Fine = "fine"
  private val Deterministic = "deterministic"
  private val Retryable = "retryable"

  /** Whether what the peers met decides what becomes of the error: they may know its cause. */
  def waitsForPeers(error: FlambeauException): Boolean =
    !error.isRetryable || error.isInstanceOf[CollectiveException]

  /** Gives `outcome` back if this attempt counts; else throws what Spark is to retry. */
  def settle(outcome: Outcome, context: BarrierTaskContext): Outcome = {
    val verdicts = context.allGather(verdict(outcome))
    if (verdicts.contains(Deterministic) || !verdicts.contains(Retryable)) outcome
    else {
      outcome match {
        case Failed(_, error) => throw error
        case _ =>
          throw new CollectiveException(s"rank ${verdicts.indexOf(Retryable)} failed; its own log says why")
      }
    }
  }

  private def verdict(outcome: Outcome): String = outcome match {
    case Failed(_, error) => if (error.isRetryable) Retryable else Deterministic
    case Trained(_) | Followed => Fine
  }
}
