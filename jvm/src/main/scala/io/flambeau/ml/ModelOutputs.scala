// SPDX-License-Identifier: Apache-2.0
package io.flambeau.ml

import org.json4s._

/**
 * An output of a model.
 *
 * @param name the layer it comes from, as in Keras's `output_names`
 * @param meaning what its values are
 */
private[ml] final case class ModelOutput(name: String, meaning: Meaning)

/** What the values of an output say, by its loss and its last activation. */
private[ml] sealed trait Meaning

private[ml] object Meaning {

  /** A score for each class: the class is the greatest. */
  case object Classes extends Meaning

  /** Independent yes-or-no answers: yes above `threshold`. */
  final case class Binary(threshold: Float) extends Meaning

  /** Values as they are. */
  case object Values extends Meaning
}

/** The outputs of a Keras model as its config and its loss describe them. */
private[ml] object ModelOutputs {
  private val ClassLosses = Set(
    "sparse_categorical_crossentropy", "categorical_crossentropy", "categorical_focal_crossentropy",
    "categorical_hinge", "categorical_generalized_cross_entropy",
    "SparseCategoricalCrossentropy", "CategoricalCrossentropy", "CategoricalFocalCrossentropy",
    "CategoricalHinge", "CategoricalGeneralizedCrossEntropy")

  private val BinaryLosses = Set(
    "binary_crossentropy", "bce", "BCE", "BinaryCrossentropy",
    "binary_focal_crossentropy", "BinaryFocalCrossentropy")

  private val SignLosses = Set("hinge", "squared_hinge", "Hinge", "SquaredHinge")

  /**
   * @param config a model's config in JSON, as in `config.json` of a .keras file
   * @param loss what `compile` was given, if anything
   */
  def of(config: JValue, loss: Option[JValue]): Seq[ModelOutput] = {
    val names = outputNames(config)
    val losses = lossOf(loss, names)
    names.map(name => ModelOutput(name, meaning(losses(name), activation(config, name))))
  }

  private def outputNames(config: JValue): Seq[String] = config \ "class_name" match {
    case JString("Sequential") =>
      (config \ "config" \ "layers").children.lastOption.map(layerName).toSeq
    case _ => flattened(config \ "config" \ "output_layers")
  }

  private def layerName(layer: JValue): String = layer \ "config" \ "name" match {
    case JString(name) => name
    case _ => "output"
  }

  /** `[name, node, tensor]`, in lists, or in dictionaries that Keras flattens by key. */
  private def flattened(outputs: JValue): Seq[String] = outputs match {
    case JArray(JString(name) :: JInt(_) :: JInt(_) :: _) => Seq(name)
    case JArray(items) => items.flatMap(flattened)
    case JObject(fields) => fields.sortBy(_._1).flatMap { case (_, value) => flattened(value) }
    case _ => Nil
  }

  private def lossOf(loss: Option[JValue], names: Seq[String]): Map[String, Option[JValue]] = {
    val losses: Seq[Option[JValue]] = loss match {
      case Some(JArray(items)) => items.map(item => Option(item).filter(_ != JNull))
      case Some(fields: JObject) if (fields \ "class_name") == JNothing =>
        names.map(name => Option(fields \ name).filter(value => value != JNothing && value != JNull))
      case single => names.map(_ => single)
    }
    names.zipAll(losses.take(names.length), "", None).toMap
  }

  /** The last activation of a layer, by name; none of a nested model. */
  private def activation(config: JValue, name: String): Option[String] =
    (config \ "config" \ "layers").children.find(layerName(_) == name).flatMap { layer =>
      (layer \ "class_name", layer \ "config" \ "activation") match {
        case (JString("Softmax"), _) => Some("softmax")
        case (_, JString(activation)) => Some(activation)
        case (_, function: JObject) => Some(function \ "config").collect { case JString(activation) => activation }
        case _ => None
      }
    }

  private def meaning(loss: Option[JValue], activation: Option[String]): Meaning = {
    val name = loss.map {
      case JString(name) => name
      case config => config \ "class_name" match {
        case JString("function") => config \ "config" match {
          case JString(name) => name
          case _ => ""
        }
        case JString(name) => name
        case _ => ""
      }
    }
    // Keras's crossentropies find the logits behind a sigmoid themselves; the output is then a probability.
    val logits = loss.exists(config => (config \ "config" \ "from_logits") == JBool(true)) &&
      !activation.exists(Set("sigmoid", "softmax"))
    (name, activation) match {
      case (Some(name), _) if ClassLosses(name) => Meaning.Classes
      case (Some(name), _) if BinaryLosses(name) => Meaning.Binary(if (logits) 0f else 0.5f)
      case (Some(name), _) if SignLosses(name) => Meaning.Binary(0f)
      case (Some(_), _) => Meaning.Values
      case (None, Some("softmax")) => Meaning.Classes
      case (None, Some("sigmoid")) => Meaning.Binary(0.5f)
      case _ => Meaning.Values
    }
  }
}
