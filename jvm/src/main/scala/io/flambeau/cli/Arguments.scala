// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import scala.annotation.tailrec

/** A command line that cannot be understood; the message ends with the command's usage. */
final class UsageException(message: String) extends RuntimeException(message)

/**
 * An option `--name VALUE`.
 *
 * @param default what an absent option means; None makes it optional without a value
 */
private[cli] final case class Flag(
    name: String,
    meaning: String,
    default: Option[String] = None,
    required: Boolean = false)

/** The options of one command. */
private[cli] final class Arguments(usage: String, values: Map[String, String]) {

  def get(name: String): Option[String] = values.get(name)

  /** An option that is required or has a default. */
  def apply(name: String): String =
    values.getOrElse(name, throw new UsageException(s"--$name is missing\n$usage"))

  /** A whole number of at least 1. */
  def count(name: String): Int = parsed(name, "a whole number of at least 1")(_.toIntOption.filter(_ > 0))

  def countFromZero(name: String): Int = parsed(name, "a whole number of at least 0")(_.toIntOption.filter(_ >= 0))

  def long(name: String): Long = parsed(name, "a whole number")(_.toLongOption)

  /** A number of at least 0. */
  def number(name: String): Double = parsed(name, "a number of at least 0")(_.toDoubleOption.filter(_ >= 0))

  def flag(name: String): Boolean = parsed(name, "true or false")(_.toBooleanOption)

  /** A number from 0 up to, not including, 1. */
  def fraction(name: String): Double =
    parsed(name, "a number from 0 to below 1")(_.toDoubleOption.filter(value => value >= 0 && value < 1))

  def choice(name: String, choices: String*): String =
    parsed(name, choices.mkString(" or "))(text => choices.find(_ == text))

  /** Comma-separated names; a JSON list cannot be told from its commas, so specs in JSON come alone. */
  def list(name: String): Option[Seq[String]] = get(name).map { text =>
    if (text.trim.startsWith("{")) Seq(text) else text.split(',').map(_.trim).filter(_.nonEmpty).toSeq
  }

  /** What is made of options alone: a param that refuses its value, or a path that is none, is a wrong option. */
  def checked[T](made: => T): T =
    try made
    catch {
      case error: IllegalArgumentException => throw new UsageException(s"${error.getMessage}\n$usage")
    }

  private def parsed[T](name: String, kind: String)(parse: String => Option[T]): T = {
    val text = this(name)
    parse(text).getOrElse(throw new UsageException(s"--$name must be $kind, not '$text'\n$usage"))
  }
}

private[cli] object Arguments {

  /** @throws UsageException for an unknown, repeated, missing or valueless option */
  def parse(command: String, flags: Seq[Flag], args: Seq[String]): Arguments = {
    val usage = usageOf(command, flags)
    def refuse(why: String): Nothing = throw new UsageException(s"$why\n$usage")

    @tailrec
    def read(rest: List[String], known: Map[String, String]): Map[String, String] = rest match {
      case Nil => known
      case option :: tail =>
        val name = option.stripPrefix("--")
        if (!option.startsWith("--") || !flags.exists(_.name == name)) refuse(s"unknown option '$option'")
        if (known.contains(name)) refuse(s"--$name is given twice")
        tail match {
          case value :: others if !value.startsWith("--") => read(others, known + (name -> value))
          case _ => refuse(s"--$name needs a value")
        }
    }
    val values = read(args.toList, Map.empty)
    for (flag <- flags if flag.required && !values.contains(flag.name)) refuse(s"--${flag.name} is missing")
    val defaults = for (flag <- flags; value <- flag.default) yield flag.name -> value
    new Arguments(usage, defaults.toMap ++ values)
  }

  private def usageOf(command: String, flags: Seq[Flag]): String = {
    val width = flags.map(_.name.length).max
    val lines = flags.map { flag =>
      val note = if (flag.required) " (required)" else flag.default.fold("")(value => s" (default $value)")
      s"  --${flag.name.padTo(width, ' ')}  ${flag.meaning}$note"
    }
    (s"usage: $command" +: lines).mkString("\n")
  }
}
