// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.apache.spark.sql.Dataset

import io.flambeau.jni.{Columns, Device}

/**
 * One fit, as its user asked for it.
 *
 * @param files the model, and weights that it starts from
 * @param training JSON of optimizer, loss, metrics, batch size, epochs, shuffling and seed
 * @param validation which rows only validate
 * @param shuffle whether each pass takes the rows in a new order
 * @param inputMode how rows come to the ranks
 * @param modelDir where checkpoints, events and the export go; without it nothing is written
 * @param keepCheckpoints how many of the newest stay there
 * @param resume whether it goes on from the checkpoint of a fit that was interrupted there
 * @param servers tasks that hold the weights of asynchronous training; none where all train in step
 * @param mesh how ranks share the model
 * @param device where ranks compute
 * @param evaluator where a task of its own validates, how many epochs lie between checkpoints; this needs a modelDir
 * @param microBatch what the rows are, if they are part of a stream; this needs a modelDir
 */
final case class FitSpec(
    files: ModelFiles,
    columns: Columns,
    training: String,
    validation: Validation,
    numWorkers: Int,
    seed: Long,
    shuffle: Boolean,
    inputMode: InputMode,
    modelDir: Option[String],
    keepCheckpoints: Int = 5,
    resume: Boolean = true,
    servers: Option[Int] = None,
    mesh: MeshShape = MeshShape.Whole,
    device: Device = Device.Auto,
    evaluator: Option[Int] = None,
    microBatch: Option[MicroBatch] = None) {

  /** How many ranks have rows: one of each replica of the model. */
  def replicas: Int = mesh.replicas(numWorkers)
}

/**
 * Which part of a stream the rows are. Training goes on where it stood after the one before, and what
 * Spark repeats is trained once.
 *
 * @param stream a name that the stream keeps when it is started again
 */
final case class MicroBatch(stream: String, number: Long)

/**
 * A model as its files hold it.
 *
 * @param model Keras JSON (UTF-8), .keras or .h5 bytes
 * @param weights the files of initial weights one after the other, or null
 */
final case class ModelFiles(model: Array[Byte], weights: Array[Byte] = null)

/** How the rows of a fit come to its ranks. */
sealed trait InputMode

object InputMode {
  /** Spark computes a partition for each rank, once; the ranks keep the rows. */
  case object Spark extends InputMode

  /** Each rank reads its part of the sources by itself, in every pass. */
  case object Direct extends InputMode
}

/** Which rows are held out of training to validate each epoch. */
sealed trait Validation

object Validation {
  case object NoRows extends Validation

  /** Rows whose boolean column `name` is true. */
  final case class Indicated(name: String) extends Validation

  /** About this fraction of the rows, drawn with the seed. */
  final case class Fraction(fraction: Double) extends Validation

  /** Those of another frame, with the same columns. */
  final case class Rows(data: Dataset[_]) extends Validation
}

/**
 * What a fit gives back.
 *
 * @param model the trained model as .keras bytes; of a micro-batch empty, its modelDir has the model
 * @param history each metric's value after each epoch
 */
final case class FitResult(model: Array[Byte], history: Map[String, Array[Double]])
