// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import io.flambeau.jni.Columns

/**
 * One fit, as its user asked for it.
 *
 * @param files the model, and weights that it starts from
 * @param training JSON of optimizer, loss, metrics, batch size, epochs, shuffling and seed
 * @param validation which rows only validate
 * @param shuffle whether each epoch takes the rows in a new order
 * @param modelDir where checkpoints, events and the export go; without it nothing is written
 */
final case class FitSpec(
    files: ModelFiles,
    columns: Columns,
    training: String,
    validation: Validation,
    numWorkers: Int,
    seed: Long,
    shuffle: Boolean,
    modelDir: Option[String])

/**
 * A model as its files hold it.
 *
 * @param model Keras JSON (UTF-8), .keras or .h5 bytes
 * @param weights the files of initial weights one after the other, or null
 */
final case class ModelFiles(model: Array[Byte], weights: Array[Byte] = null)

/** Which rows are held out of training to validate each epoch. */
sealed trait Validation

object Validation {
  case object NoRows extends Validation

  /** Rows whose boolean column `name` is true. */
  final case class Indicated(name: String) extends Validation

  /** About this fraction of the rows, drawn with the seed. */
  final case class Fraction(fraction: Double) extends Validation
}

/**
 * What a fit gives back.
 *
 * @param model the trained model as .keras bytes
 * @param history each metric's value after each epoch
 */
final case class FitResult(model: Array[Byte], history: Map[String, Array[Double]])
