// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.{ByteArrayInputStream, ByteArrayOutputStream, DataInputStream, DataOutputStream}
import java.nio.charset.StandardCharsets.UTF_8

import scala.collection.immutable.ListMap

import io.flambeau._

/**
 * Outcomes as bytes, which is what crosses the exchange: whichever serializer the user has chosen for
 * Spark, and whatever classes it demands to be told of, it takes arrays of bytes.
 */
private[train] object OutcomeBytes {
  private val TrainedTag = 1
  private val FollowedTag = 2
  private val FailedTag = 3

  /** What can be thrown on the driver again, by the name that crosses. */
  private val exceptions: Map[String, String => FlambeauException] = Seq[String => FlambeauException](
    new ConfigException(_), new DataException(_), new NumericException(_), new PeerFailedException(_),
    new MemoryException(_), new CollectiveException(_), new StorageException(_), new CancelledException(_),
    new NativeLoadException(_), new NativePanicException(_), new FlambeauException(_)).map(make => make("").getClass.getName -> make).toMap

  def encode(outcome: Outcome): Array[Byte] = written { out =>
    outcome match {
      case Trained(FitResult(model, history)) =>
        out.writeByte(TrainedTag)
        write(out, model)
        out.writeInt(history.size)
        history.foreach { case (metric, values) =>
          write(out, metric)
          out.writeInt(values.length)
          values.foreach(out.writeDouble)
        }
      case Followed => out.writeByte(FollowedTag)
      case Failed(rank, error) =>
        out.writeByte(FailedTag)
        out.writeInt(rank)
        write(out, error.getClass.getName)
        write(out, error.getMessage)
        val stack = error.getStackTrace
        out.writeInt(stack.length)
        stack.foreach { frame =>
          Seq(frame.getClassName, frame.getMethodName, Option(frame.getFileName).getOrElse("")).foreach(write(out, _))
          out.writeInt(frame.getLineNumber)
        }
    }
  }

  def decode(bytes: Array[Byte]): Outcome = {
    val in = new DataInputStream(new ByteArrayInputStream(bytes))
    in.readByte().toInt match {
      case TrainedTag =>
        val model = read(in)
        // A by-name `fill` reads one after the other.
        val history = Seq.fill(in.readInt())(text(in) -> Array.fill(in.readInt())(in.readDouble()))
        Trained(FitResult(model, ListMap.from(history)))
      case FollowedTag => Followed
      case FailedTag =>
        val rank = in.readInt()
        val make = exceptions.getOrElse(text(in), new FlambeauException(_: String))
        val error = make(text(in))
        error.setStackTrace(Array.fill(in.readInt()) {
          val (owner, method, file) = (text(in), text(in), text(in))
          new StackTraceElement(owner, method, file, in.readInt())
        })
        Failed(rank, error)
      case tag => throw new IllegalStateException(s"an outcome of kind $tag")
    }
  }

  /** Several arrays, such as outcomes, in one. */
  def join(outcomes: Iterator[Array[Byte]]): Array[Byte] = written(out => outcomes.foreach(write(out, _)))

  def split(joined: Array[Byte]): Seq[Outcome] = parts(joined).map(decode)

  /** What was joined. */
  def parts(joined: Array[Byte]): Seq[Array[Byte]] = {
    val in = new DataInputStream(new ByteArrayInputStream(joined))
    Iterator.continually(in).takeWhile(_.available() > 0).map(read).toSeq
  }

  private def written(body: DataOutputStream => Unit): Array[Byte] = {
    val bytes = new ByteArrayOutputStream
    val out = new DataOutputStream(bytes)
    body(out)
    out.flush()
    bytes.toByteArray
  }

  private def write(out: DataOutputStream, text: String): Unit = write(out, text.getBytes(UTF_8))

  private def write(out: DataOutputStream, bytes: Array[Byte]): Unit = {
    out.writeInt(bytes.length)
    out.write(bytes)
  }

  private def text(in: DataInputStream): String = new String(read(in), UTF_8)

  private def read(in: DataInputStream): Array[Byte] = in.readNBytes(in.readInt())
}
