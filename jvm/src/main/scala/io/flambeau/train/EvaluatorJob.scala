// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import java.io.PrintStream
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.atomic.AtomicReference

import scala.collection.immutable.ListMap
import scala.concurrent.Await
import scala.concurrent.duration._
import scala.util.{Failure, Try}

import org.apache.spark.FutureAction
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.catalyst.InternalRow
import org.json4s.{DefaultFormats, Formats, JArray, JObject}
import org.json4s.jackson.JsonMethods.{compact, parse}
import org.slf4j.LoggerFactory

/**
 * A job of one task beside a fit, which validates the checkpoint of each epoch. Spark starts the task again
 * if it is lost; if it fails for good the fit has less to tell, and nothing else.
 *
 * @param rows those to validate with, in one partition
 * @param progress where to print a line for each epoch, if anywhere
 */
private[train] final class EvaluatorJob(rows: RDD[InternalRow], fit: FitTask, progress: Option[PrintStream])
    extends AutoCloseable {
  import EvaluatorJob._

  private val told = new AtomicReference(Seq.empty[JObject])

  private val sc = rows.sparkContext

  /** Of its own, as events of one task come in one order. */
  private val accumulator = sc.collectionAccumulator[String]("flambeau evaluations")
  private val printer = progress.map(out => new ProgressReport.Listener(accumulator, new ProgressPrinter(out).show))
  printer.foreach(sc.addSparkListener(_))

  private val action: FutureAction[Unit] = {
    val task = fit.copy(progress = accumulator)
    val measured = rows.mapPartitions(rows => Iterator(encode(task.evaluate(rows)))).setName("flambeau evaluator")
    sc.submitJob[Array[Byte], Array[Byte], Unit](
      measured, _.next(), Seq(0), (_, bytes) => told.set(decode(bytes)), ())
  }

  /** Ends the task unless it has ended. */
  override def close(): Unit = {
    if (!action.isCompleted) action.cancel()
    printer.foreach(sc.removeSparkListener(_))
  }

  /**
   * `result` with what the evaluator has told, once it has seen the last checkpoint: NaN for an epoch that it has
   * not seen, though it had a checkpoint.
   *
   * @param every epochs between checkpoints
   * @param patienceMillis how long it may take after the end of the fit
   */
  def complete(result: FitResult, every: Int, patienceMillis: Long): FitResult = {
    Try(Await.ready(action, patienceMillis.millis))
    val why = action.value match {
      case None => s" within ${patienceMillis / 1000} s after the end of training"
      case Some(Failure(error)) => s": its task failed: ${error.getMessage.linesIterator.nextOption().getOrElse("")}"
      case Some(_) => ", whose checkpoints were gone before their turn (keepCheckpoints says how many stay)"
    }
    printer.foreach(_.finish())
    val epochs = result.history.values.map(_.length).maxOption.getOrElse(0)
    val logs = told.get.flatMap(event => (event \ "epoch").extractOpt[Int].map(_ -> (event \ "logs"))).toMap
    val missed = (1 to epochs).filter(epoch => (epoch % every == 0 || epoch == epochs) && !logs.contains(epoch))
    if (missed.nonEmpty) {
      val warning = s"the evaluator has not seen epochs ${missed.mkString(", ")}$why"
      log.warn(warning)
      progress.foreach(_.println(s"warning: $warning"))
    }
    val metrics = logs.values.collect { case JObject(fields) => fields.map(_._1) }.headOption.toSeq.flatten
    val validated = metrics.map { metric =>
      metric -> Array.tabulate(epochs)(index => logs.get(index + 1).fold(Double.NaN)(found => History.number(found \ metric)))
    }
    result.copy(history = ListMap.from(result.history.toSeq ++ validated))
  }
}

private[train] object EvaluatorJob {
  private val log = LoggerFactory.getLogger(classOf[EvaluatorJob])
  private implicit val formats: Formats = DefaultFormats

  private def encode(events: Seq[JObject]): Array[Byte] = compact(JArray(events.toList)).getBytes(UTF_8)

  private def decode(bytes: Array[Byte]): Seq[JObject] = parse(new String(bytes, UTF_8)) match {
    case JArray(events) => events.collect { case event: JObject => event }
    case _ => Nil
  }
}
