// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import io.flambeau.ConfigException

/** Over what data travels between ranks, by its name in `spark.flambeau.transports` and in the session's document. */
private[train] sealed abstract class Transports(val name: String)

private[train] object Transports {

  /** Memory between ranks of one host that prove to have some in common, TCP between the others. */
  case object Auto extends Transports("auto")

  /** TCP between all. */
  case object Tcp extends Transports("tcp")

  val Key = "spark.flambeau.transports"

  /** @throws ConfigException for a name that is none */
  def of(setting: String => Option[String]): Transports =
    setting(Key).map(_.trim).getOrElse(Auto.name) match {
      case Auto.name => Auto
      case Tcp.name => Tcp
      case other =>
        throw new ConfigException(
          s"$Key is '$other'. Try: auto, for memory between the executors of a host and TCP between hosts, or tcp, for TCP alone")
    }
}
