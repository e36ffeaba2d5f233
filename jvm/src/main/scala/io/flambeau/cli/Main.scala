// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.spark.sql.SparkSession

import io.flambeau.FlambeauException

/** One subcommand of the command line. */
private[cli] trait Command {
  def name: String
  def meaning: String
  def flags: Seq[Flag]
  def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit
}

/**
 * `spark-submit --class io.flambeau.cli.Main flambeau.jar COMMAND --option value ...`. Ends with 0,
 * with 2 for a wrong command line, or with 1 and one clear message for a failure.
 *
 * Progress is as live as Spark's heartbeats: `--conf spark.executor.heartbeatInterval=1s`.
 */
object Main {
  private val Commands: Seq[Command] = Seq(PrepareCommand, ConvertCommand, InspectCommand, TrainCommand, PredictCommand)

  def main(args: Array[String]): Unit = {
    val code =
      try run(args.toSeq, System.out, System.err)
      // Left to Spark's shutdown hook, executors would be started anew while the JVM ends.
      finally SparkSession.getDefaultSession.foreach(_.stop())
    if (code != 0) System.exit(code)
  }

  /** As `main`, but gives the exit code back. */
  private[cli] def run(
      args: Seq[String], out: PrintStream, err: PrintStream, commands: Seq[Command] = Commands): Int =
    try {
      val (command, arguments) = parse(args, commands)
      val spark = SparkSession.builder().appName(s"flambeau ${command.name}").getOrCreate()
      command.run(spark, arguments, out)
      0
    } catch {
      case error: UsageException =>
        err.println(error.getMessage)
        2
      case Flambeau(error) =>
        err.println(s"${error.getClass.getSimpleName}: ${error.getMessage}")
        1
    }

  /** A failure of Flambeau, as it is or as the cause of what Spark says of a task or a stream. */
  private object Flambeau {
    def unapply(error: Throwable): Option[FlambeauException] =
      Iterator.iterate(error)(_.getCause).takeWhile(_ != null).collectFirst { case known: FlambeauException => known }
  }

  private def parse(args: Seq[String], commands: Seq[Command]): (Command, Arguments) = {
    val command = args.headOption.flatMap(name => commands.find(_.name == name)).getOrElse {
      val problem = args.headOption.fold("no command")(name => s"unknown command '$name'")
      val known = commands.map(command => s"  ${command.name.padTo(8, ' ')} ${command.meaning}")
      throw new UsageException((s"$problem; the commands are:" +: known).mkString("\n"))
    }
    (command, Arguments.parse(command.name, command.flags, args.tail))
  }
}
