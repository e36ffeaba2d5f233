// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

/**
 * What the records of a TFRecord file are.
 *
 * @param name the option's value
 * @param nativeName its name for native sessions
 */
sealed abstract class RecordType(val name: String, val nativeName: String) extends Serializable

object RecordType {

  /** tf.train.Example: features by name, each a column. */
  case object Example extends RecordType("Example", "example")

  /** tf.train.SequenceExample: an Example's features, and lists of features, which are arrays of arrays. */
  case object SequenceExample extends RecordType("SequenceExample", "sequence_example")

  /** Bytes of any kind: one binary column. */
  case object ByteArray extends RecordType("ByteArray", "byte_array")

  val All: Seq[RecordType] = Seq(Example, SequenceExample, ByteArray)
}
