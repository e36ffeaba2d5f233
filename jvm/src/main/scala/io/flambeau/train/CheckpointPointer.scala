// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

/**
 * What the file `checkpoint` of a model directory says: TensorFlow's checkpoint state, which names
 * checkpoints without their files' ending, under a comment with the run that they are of.
 *
 * @param hasEnded whether the run has ended well
 * @param state the checkpoint state itself
 */
private[train] final case class CheckpointPointer(run: String, hasEnded: Boolean, state: String) {

  /** The steps that it names, in order; at least one. Files may be gone if a task was killed. */
  val steps: Seq[Long] = CheckpointPointer.stepsOf(state)

  def text: String = s"# run $run${if (hasEnded) CheckpointPointer.Ended else ""}\n$state"
}

private[train] object CheckpointPointer {
  private val Ended = ", which has ended"
  private val Head = raw"# run (\S+?)(, which has ended)?".r
  private val Line = raw"""model_checkpoint_paths?:\s*"ckpt-(\d+)"""".r

  /** None if the text is not one that a run has left. */
  def read(text: String): Option[CheckpointPointer] = {
    val (head, state) = text.span(_ != '\n')
    head match {
      case Head(run, ended) if stepsOf(state).nonEmpty => Some(CheckpointPointer(run, ended != null, state.drop(1)))
      case _ => None
    }
  }

  private def stepsOf(state: String): Seq[Long] = Line.findAllMatchIn(state).map(_.group(1).toLong).toSeq.distinct.sorted
}
