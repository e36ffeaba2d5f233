// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.PrintStream
import java.time.LocalDateTime
import java.time.format.DateTimeFormatter

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.{DataFrame, Encoders, Row, SparkSession}
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types.DoubleType

import io.flambeau.ml.KerasModel

/** Predicts a table's rows, as lines like `2026-05-21T11:49:56.561506 Label: 7, Prediction: 7`. */
private[cli] object PredictCommand extends Command {
  override val name = "predict"
  override val meaning = "apply a trained model to a table"

  override val flags: Seq[Flag] = Seq(
    Flag("model-dir", "directory that train wrote", required = true),
    Flag("data", "the table", required = true),
    Tables.FormatFlag,
    Tables.IdxLabelsFlag,
    Tables.StreamFlag,
    Tables.TriggerFlag,
    Flag("label", "label column", default = Some("label")),
    Flag("features", "feature columns, by commas; all but the label if absent"),
    Tables.InputMappingFlag,
    Flag("output", "directory for the lines; must not exist, unless it is a stream's", required = true)) ++
    Tables.MappingFlags

  private val Export = "export/model.keras"

  override def run(spark: SparkSession, arguments: Arguments, out: PrintStream): Unit = {
    val output = arguments.checked(new Path(arguments("output")))
    val streams = arguments.get("stream").isDefined
    if (!streams) Tables.absent(spark, output.toString)
    val label = arguments("label")
    val table = Tables.read(spark, arguments, arguments("data"))
    val model = KerasModel.fromKerasFile(spark, s"${arguments("model-dir")}/$Export")
    arguments.checked(Tables.setFeatures(model, arguments, table, Seq(label)))
    def predictions(rows: DataFrame): DataFrame = model.transform(rows).select(col(label).cast(DoubleType), col("prediction"))
    if (streams) {
      val lines = predictions(Tables.stream(spark, arguments, arguments("data"))).map(line(_))(Encoders.STRING)
      Tables.run(lines.toDF().writeStream.format("text").option("path", output.toString), arguments)
      out.println(s"the stream is at its end; lines in $output")
    } else write(predictions(table).persist(), label, output, out)
  }

  private def write(predicted: DataFrame, label: String, output: Path, out: PrintStream): Unit =
    try {
      predicted.rdd.map(line).saveAsTextFile(output.toString)
      val rows = predicted.count()
      val right = predicted.where(col(label) === col("prediction")).count()
      out.println(f"$rows rows, accuracy ${right.toDouble / rows.max(1)}%.4f; lines in $output")
    } finally predicted.unpersist()

  private def line(row: Row): String = {
    val time = LocalDateTime.now.format(DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSSSSS"))
    s"$time Label: ${plain(row.getDouble(0))}, Prediction: ${plain(row.getDouble(1))}"
  }

  private def plain(value: Double): String = if (value == value.toLong) value.toLong.toString else value.toString
}
