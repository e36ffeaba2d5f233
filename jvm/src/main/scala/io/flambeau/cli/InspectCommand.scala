// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream

import org.apache.spark.sql.{Column, DataFrame, Row, SparkSession}
import org.apache.spark.sql.functions.{count, lit, max, min, size}
import org.apache.spark.sql.types.{ArrayType, StructField}

import io.flambeau.jni.Columns

/** Says what is in files: how many records, which columns, and the first records. */
private[cli] object InspectCommand extends Command {
  override val name = "inspect"
  override val meaning = "print the columns, the number and the first records of a table"

  override val flags: Seq[Flag] = Seq(
    Flag("data", "the table", required = true),
    Tables.FormatFlag,
    Tables.IdxLabelsFlag,
    Flag("records", "how many records to print", default = Some("3")))

  private val ShownValues = 8
  private val ShownLength = 60

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val table = Tables.read(spark, arguments, arguments("data"))
    val facts = table.select(aggregates(table): _*).head()
    out.println(s"${table.inputFiles.length} files, ${facts.getLong(0)} records")
    val width = table.columns.map(_.length).maxOption.getOrElse(0)
    var at = 1
    for (field <- table.schema) {
      val column = s"  ${field.name.padTo(width, ' ')}  ${field.dataType.sql.toLowerCase}"
      val details = nulls(facts.getLong(0) - facts.getLong(at)) ++ lengths(field, facts, at + 1)
      out.println((Seq(column) ++ details).mkString(", "))
      at += aggregatesOf(field).length
    }
    table.limit(arguments.count("records")).collect().foreach(row => out.println(line(table, row)))
  }

  private def aggregates(table: DataFrame): Seq[Column] = count(lit(1)) +: table.schema.flatMap(aggregatesOf)

  /** Rows that are not null; of arrays also the least and the greatest number of values. */
  private def aggregatesOf(field: StructField): Seq[Column] = {
    val column = Columns.named(field.name)
    count(column) +: (field.dataType match {
      case _: ArrayType => Seq(min(size(column)), max(size(column)))
      case _ => Nil
    })
  }

  private def nulls(count: Long): Option[String] = Option.when(count > 0)(s"$count nulls")

  private def lengths(field: StructField, facts: Row, at: Int): Option[String] = field.dataType match {
    case _: ArrayType if !facts.isNullAt(at) =>
      val (least, most) = (facts.getInt(at), facts.getInt(at + 1))
      Some(if (least == most) s"$most values" else s"$least to $most values")
    case _ => None
  }

  private def line(table: DataFrame, row: Row): String =
    table.columns.toSeq.zip(row.toSeq).map { case (name, value) => s"$name ${shown(value)}" }.mkString("| ", ", ", "")

  /** A value as far as a line should hold it. */
  private def shown(value: Any): String = value match {
    case null => "null"
    case bytes: Array[Byte] => s"${bytes.length} bytes"
    case values: scala.collection.Seq[_] =>
      val some = values.take(ShownValues).map(shown).mkString("[", ", ", "")
      if (values.length > ShownValues) s"$some, .. ${values.length} values]" else s"$some]"
    case other if other.toString.length > ShownLength => s"${other.toString.take(ShownLength)}.."
    case other => other.toString
  }
}
