// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni

import org.apache.spark.TaskContext
import org.json4s.JObject
import org.json4s.JsonDSL._

import io.flambeau.ConfigException

/**
 * Where native code computes.
 *
 * @param kind auto, cpu or cuda
 * @param index which GPU the user has named
 */
final case class Device private (kind: String, index: Option[Int]) {

  /**
   * What the session of a task is told: the GPU that the user has named, or that which Spark has given the
   * task (`spark.task.resource.gpu.amount`); else the tasks of a host go round all of its GPUs.
   *
   * @param place which of the tasks on its host this is, from 0 on
   */
  private[flambeau] def json(task: TaskContext, place: Int): JObject = {
    val assigned = if (kind == "cpu") None else index.orElse(Device.assigned(task))
    ("kind" -> kind) ~ ("index" -> assigned) ~ ("place" -> place)
  }
}

object Device {
  val Auto: Device = Device("auto", None)

  private val Named = "cuda:(\\d{1,4})".r

  /** The device of that name; none for another text. */
  def parse(name: String): Option[Device] = name match {
    case "auto" | "cpu" | "cuda" => Some(Device(name, None))
    case Named(index) => Some(Device("cuda", Some(index.toInt)))
    case _ => None
  }

  private def assigned(task: TaskContext): Option[Int] =
    for (gpus <- task.resources().get("gpu"); address <- gpus.addresses.headOption)
      yield address.toIntOption.getOrElse {
        throw new ConfigException(
          s"Spark has given this task the GPU '$address', which is no number as libtorch counts GPUs. " +
            "Try: a discovery script that gives indices, or device='cuda:0' in executors that see one GPU")
      }
}
