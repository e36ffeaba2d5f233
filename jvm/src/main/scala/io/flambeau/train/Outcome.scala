// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import io.flambeau.{FlambeauException, PeerFailedException}

/** How one rank ended: a value, as Spark must not retry what a retry cannot mend. */
private[train] sealed trait Outcome

/** Rank 0 trained to the end. */
private[train] final case class Trained(result: FitResult) extends Outcome

/** Another rank trained to the end; rank 0 has the result. */
private[train] case object Followed extends Outcome

private[train] final case class Failed(rank: Int, error: FlambeauException) extends Outcome

private[train] object Outcome {

  /** Rank 0's result, or the failure that came first: one that no other failure explains. */
  def resultOf(outcomes: Seq[Outcome]): FitResult = {
    val failures = outcomes.collect { case failed: Failed => failed }
    failures.sortBy(failed => (distance(failed.error), failed.rank)).headOption.foreach {
      case Failed(_, consequence: PeerFailedException) => throw consequence
      case Failed(rank, error) => throw error.onRank(rank)
    }
    outcomes.collectFirst { case Trained(result) => result }.getOrElse {
      throw new IllegalStateException("rank 0 ended without a result")
    }
  }

  /** From the cause: peers report it, or merely lost the rank that had it. */
  private def distance(error: FlambeauException): Int = error match {
    case _: PeerFailedException => 1
    case other => if (other.isRetryable) 2 else 0
  }
}
