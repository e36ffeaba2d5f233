// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.io.ByteArrayOutputStream
import java.nio.charset.{Charset, StandardCharsets}
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.{Files, Path}
import java.util.zip.GZIPOutputStream

import scala.collection.mutable.ArrayBuffer
import scala.util.{Random, Try}
import scala.util.control.NonFatal

import com.univocity.parsers.common.TextParsingException
import org.apache.hadoop.io.Text
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.{classic, DataFrame}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.csv.CSVOptions
import org.apache.spark.sql.catalyst.expressions.JoinedRow
import org.apache.spark.sql.execution.FileSourceScanExec
import org.apache.spark.sql.execution.adaptive.AdaptiveSparkPlanHelper
import org.apache.spark.sql.functions.{col, lit, sum}
import org.apache.spark.sql.streaming.Trigger
import org.apache.spark.sql.types.{IntegerType, StructType}
import org.scalatest.time.SpanSugar._

import io.flambeau.SparkSuite

/** Against Spark's own reader. */
class PlainCsvSuite extends SparkSuite with AdaptiveSparkPlanHelper {
  import PlainCsvSuite.parts

  private val deadline = 400.seconds
  private val Columns = "i int, l long, h short, b byte, f float, d double, t string, o boolean, day date"

  /** Reads as Spark does, and as Flambeau does. */
  private def check(frame: DataFrame, clue: => String): Unit = {
    val expected = parts(frame.schema, frame.queryExecution.toRdd)
    val found = parts(frame.schema, SparkInternals.rows(frame))
    if (found != expected) {
      val different = found.flatten.zipAll(expected.flatten, "none", "none").find { case (x, y) => x != y }
      fail(s"$clue\n$different\n${found.map(_.length)} ${expected.map(_.length)}")
    }
  }

  private def executed(frame: DataFrame) =
    classic.Dataset.ofRows(SparkInternals.classicOf(frame).sparkSession, FedRows.of(SparkInternals.classicOf(frame)))
      .queryExecution.executedPlan

  /** Whether Flambeau reads each file scan of the plan. */
  private def plain(frame: DataFrame): Seq[Boolean] =
    collect(executed(frame)) { case scan: FileSourceScanExec => scan.relation.fileFormat.isInstanceOf[PlainCsvFormat] }

  private def write(file: Path, lines: Seq[String], end: String = "\n", charset: Charset = UTF_8): String = {
    Files.createDirectories(file.getParent)
    val bytes = lines.mkString("", end, end).getBytes(charset)
    val packed = new ByteArrayOutputStream
    if (file.toString.endsWith(".gz")) {
      val gzip = new GZIPOutputStream(packed)
      gzip.write(bytes)
      gzip.close()
    } else packed.write(bytes)
    Files.write(file, packed.toByteArray).toString
  }

  private def read(path: String, options: (String, String)*): DataFrame =
    spark.read.schema(Columns).options(options.toMap).csv(path)

  private final class Lines(random: Random, sep: String, odd: Double) {
    private def one[T](choices: T*): T = choices(random.nextInt(choices.length))

    private def digits(most: Int): String =
      Seq.fill(1 + random.nextInt(most))(('0' + random.nextInt(10)).toChar).mkString

    private def number(): String = one("", "", "-", "+") + digits(5)

    private def decimal(): String =
      number() + one("", ".", "." + digits(6), "e" + number().take(2), "." + digits(3) + "E-" + digits(1))

    private def text(): String =
      Seq.fill(random.nextInt(9))(one("a", "Z", "7", "x y", "_", "'", "-", "/", "#", "0")).mkString

    private def strange(): String = one(
      "", " ", "\t", "0", "1", "-", "+", ".", "+-1", "--", "1 ", " 1", "  2  ", "1.", ".5", "-0", "-0.0",
      "1e5", "1e400", "1e-400", "0x10", "1f", "1d", "NaN", "Inf", "-Inf", "nan", "Infinity", "NA", "null",
      "true", "TRUE", "False", "yes", "127", "128", "-128", "-129", "32767", "32768", "-32769",
      "2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807",
      "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "999999999999999999",
      "1" * 40, "0" * 30 + "1", "0." + "3" * 40, "16777217", "\"\"", "\"1\"", "\"a" + sep + "b\"",
      "\"a\"\"b\"", "a\"b", "\"open", "\"1\"2", "\\", "a\\b", "\\\"", "#", "#1", "é", "日本", "٣",
      "\u0001", "\u007f", "\u0000", "2020-01-02", "2020-13-40", "1,5", "1;5", "1|5", "'1'")

    private def field(column: Int): String =
      if (random.nextDouble() < odd) strange()
      else column match {
        case 0 | 1 => number()
        case 2 => number().take(4)
        case 3 => number().take(2)
        case 4 | 5 => decimal()
        case 6 => text()
        case 7 => one("true", "false", "")
        case _ => one("2020-02-03", "", "2021-12-31")
      }

    def line(): String = {
      val columns = if (random.nextDouble() < odd / 2) random.nextInt(12) else 9
      if (random.nextDouble() < odd / 10) one("", " ", "\t", "#", "# no row", sep, sep * 8, " " + sep * 8)
      else (0 until columns).map(field).mkString(sep)
    }
  }

  private val OddOptions: Seq[Seq[(String, String)]] = Seq(
    Nil, Nil, Nil, Nil, Nil,
    Seq("nullValue" -> "0"), Seq("nullValue" -> "NA"), Seq("nullValue" -> "true"),
    Seq("nanValue" -> "1"), Seq("positiveInf" -> "1."),
    Seq("comment" -> "#"), Seq("comment" -> "1"),
    Seq("quote" -> "'"), Seq("quote" -> "1"), Seq("quote" -> ""),
    Seq("escape" -> "0"), Seq("escape" -> "\""), Seq("charToEscapeQuoteEscaping" -> "\\"),
    Seq("ignoreLeadingWhiteSpace" -> "true"), Seq("ignoreTrailingWhiteSpace" -> "true"),
    Seq("ignoreLeadingWhiteSpace" -> "true", "ignoreTrailingWhiteSpace" -> "true"),
    Seq("emptyValue" -> "1"), Seq("emptyValue" -> "none", "nullValue" -> "none"),
    Seq("multiLine" -> "true"), Seq("encoding" -> "ISO-8859-1"),
    Seq("maxColumns" -> "9"), Seq("maxColumns" -> "8"), Seq("maxCharsPerColumn" -> "6"),
    Seq("lineSep" -> "\n"), Seq("lineSep" -> "1"),
    Seq("unescapedQuoteHandling" -> "RAISE_ERROR"), Seq("escapeQuotes" -> "false"),
    Seq("locale" -> "de-DE"), Seq("dateFormat" -> "yyyy"), Seq("inputBufferSize" -> "64"),
    Seq("columnPruning" -> "false"), Seq("columnNameOfCorruptRecord" -> "t"))

  test("rows and failures are those of Spark, whatever the lines, the options and the columns wanted") {
    failAfter(deadline) {
      val folder = temporaryDirectory()
      for (turn <- 0 until 2 * OddOptions.length) {
        val random = new Random(turn)
        def one[T](choices: T*): T = choices(random.nextInt(choices.length))
        val sep = one(",", ",", ",", "\t", ";", "|", " ", "||", "1", "e")
        val lines = new Lines(random, sep, one(0.0, 0.002, 0.02, 0.2))
        val header = one(true, false)
        val names = one("i", "I", "j") +: Seq("l", "h", "b", "f", "d", "t", "o", "day")
        val all = (if (header) Seq(names.mkString(sep)) else Nil) ++ Seq.fill(120)(lines.line())
        val path = write(
          folder.resolve(s"$turn/lines.csv" + one("", "", ".gz")),
          Seq(one("", "", "", "\ufeff") + all.head) ++ all.tail,
          one("\n", "\n", "\r\n", "\r"))
        spark.conf.set("spark.sql.files.maxPartitionBytes", one("128m", "1000", "3333"))
        val options = OddOptions(turn % OddOptions.length)
        for (mode <- Seq("PERMISSIVE", "DROPMALFORMED", "FAILFAST")) {
          val enforce = "enforceSchema" -> one("true", "false")
          val every = Seq("sep" -> sep, "header" -> header.toString, enforce, "mode" -> mode)
          val frame = read(path, every ++ options: _*)
          def clue(what: String) = s"turn $turn, $what, ${frame.schema.simpleString}, $every, $options, $path"
          check(frame.drop("day"), clue("numbers and strings"))
          check(frame.select("f", "i", "t"), clue("some"))
          check(frame.select(one("i", "l", "h", "b", "f", "d", "t", "o")), clue("one"))
          if (turn % 5 == 0) {
            check(frame, clue("all"))
            check(frame.where("i > 100 and t is not null").select("l", "d"), clue("filtered"))
            check(frame.select(lit(1)), clue("none"))
          }
        }
      }
    }
  }

  private val Plain = Seq(
    "1,2,3,4,5.5,6.25,some text,true,2020-01-02",
    "-1,+2,-0,,1e3,-.5,,false,anything",
    ",,,,,,,,",
    "007,1,1,127,1.,0.1,x,,\u65e5")

  private def line(columns: String, options: (String, String)*): PlainCsvLine = {
    val schema = StructType.fromDDL(columns)
    val parsed = new CSVOptions(options.toMap, true, "UTC", "_corrupt_record")
    new PlainCsvLine(PlainCsvDialect.of(options.toMap, parsed).get, schema, StructType(schema.filter(_.name != "day")))
  }

  test("plain lines never reach Spark's parser, others do") {
    val lines = Plain.iterator.map(new Text(_))
    val rows = new PlainCsvRows(lines, line(Columns))(rest => rest.map(text => fail(s"not plain: $text")))
    assert(rows.map(_.copy()).map(row => Try(row.getInt(0)).filter(_ => !row.isNullAt(0)).toOption).toSeq ==
      Seq(Some(1), Some(-1), None, Some(7)))
    val two = line("a int, t string", "nullValue" -> "NA", "comment" -> "#")
    def takes(text: String) = two.parse(text.getBytes(UTF_8), text.getBytes(UTF_8).length)
    for (text <- Seq("1,a", ",", "1,", "-5,a b", "1,NA", "+0,#")) assert(takes(text), text)
    val others = Seq(
      "", " ", "1", "1,2,3", "x,a", "NA,a", "1.0,a", "1,\"a\"", "1, a", "1,a ", "1,\\a", "1,é", "#1,a", " 1,a",
      "1,a\tb", "1,a\u007f")
    for (text <- others) assert(!takes(text), text)
  }

  test("a row stays as it is until the next one is asked for") {
    val path = write(temporaryDirectory().resolve("a/a.csv"), Seq.tabulate(50)(at => s"$at" + ("," * 8)))
    val values = SparkInternals.rows(read(path).select("i")).mapPartitions { rows =>
      Iterator.continually(rows).takeWhile(_.hasNext).map { rows =>
        val row = rows.next()
        rows.hasNext
        row.getInt(0)
      }
    }.collect()
    assert(values.toSeq == (0 until 50))
  }

  test("Flambeau reads Spark's CSV files, but not what is cached, and no other format") {
    val folder = temporaryDirectory()
    val path = write(folder.resolve("a/a.csv"), Plain)
    assert(plain(read(path)) == Seq(true))
    assert(plain(read(path).where("i > 3").selectExpr("l + 1")) == Seq(true))
    assert(plain(read(path).union(read(path))) == Seq(true, true))
    read(path).write.parquet(folder.resolve("parquet").toString)
    assert(plain(spark.read.parquet(folder.resolve("parquet").toString)) == Seq(false))
    val cached = read(path).select("i", "t").cache()
    assert(cached.count() == Plain.length)
    assert(plain(cached.where("i = 1")).isEmpty && executed(cached).toString.contains("InMemoryTableScan"))
    check(cached, "cached")
    cached.unpersist(blocking = true)
    assert(plain(cached) == Seq(true))
  }

  test("columns of partitions, joins and sorts are those of Spark") {
    val folder = temporaryDirectory()
    val random = new Random(3)
    for (part <- Seq("p=1/x.csv", "p=2/x.csv", "p=2/y.csv"))
      write(folder.resolve(part), Seq.fill(100)(new Lines(random, ",", 0.02).line()))
    val frame = read(folder.toString)
    assert(frame.columns.contains("p") && plain(frame) == Seq(true))
    check(frame, "partitions")
    check(frame.select("p", "t", "_metadata.file_name", "_metadata.file_size"), "metadata")
    check(frame.where("p = 2").select("i"), "one partition")
    for (adaptive <- Seq("true", "false")) {
      spark.conf.set("spark.sql.adaptive.enabled", adaptive)
      val sums = frame.groupBy("h").agg(sum("b").as("s"))
      check(sums.orderBy("h"), "groups")
      val joined = frame.as("x").join(sums, "h").orderBy("h", "i", "l", "f", "d", "t")
      check(joined.select("h", "i", "l", "s", "x.p"), "join")
      check(frame.repartition(3, col("i")).sortWithinPartitions("i", "l", "h", "d", "t").select("i", "l"), "exchanged")
      check(frame.repartition(3, col("i")).where("i = 5").groupBy().count(), "count")
    }
    spark.conf.unset("spark.sql.adaptive.enabled")
  }

  test("a table and a stream of CSV are read alike") {
    val folder = temporaryDirectory()
    write(folder.resolve("in/a.csv"), Plain)
    write(folder.resolve("in/b.csv"), Plain ++ Seq("oops,1", "\"8\",,,,,,,,"))
    spark.sql(s"create table lines ($Columns) using csv location '${folder.resolve("in")}'")
    assert(plain(spark.table("lines")) == Seq(true))
    check(spark.table("lines"), "table")
    val stream = spark.readStream.schema(Columns).csv(folder.resolve("in").toString).drop("day")
    val mapped = MapRows(stream, stream.schema.add("one", IntegerType), "WithOne") {
      _.map(row => new JoinedRow(row, InternalRow(1)))
    }
    val query = mapped.writeStream
      .option("checkpointLocation", folder.resolve("checkpoint").toString)
      .trigger(Trigger.AvailableNow())
      .start(folder.resolve("out").toString)
    query.awaitTermination(60000)
    query.stop()
    query.exception.foreach(throw _)
    val written = spark.read.parquet(folder.resolve("out").toString)
    assert(written.selectExpr("sum(one)").head().getLong(0) == 10)
    assert(written.drop("one").exceptAll(spark.table("lines").drop("day")).isEmpty)
    spark.sql("drop table lines")
  }

  test("other encodings are left to Spark") {
    for (charset <- Seq(StandardCharsets.UTF_16BE, StandardCharsets.ISO_8859_1, StandardCharsets.UTF_8)) {
      val path = write(temporaryDirectory().resolve(s"$charset/a.csv"), Plain, charset = charset)
      check(read(path, "encoding" -> charset.name, "lineSep" -> "\n"), charset.name)
      check(read(path, "encoding" -> charset.name), charset.name)
    }
  }
}

private object PlainCsvSuite {

  /** Of each partition the rows until there are no more or one fails, and then the failure. */
  def parts(schema: StructType, rows: RDD[InternalRow]): Seq[Seq[Any]] = {
    def bits(value: Any): Any = value match {
      case number: Double => java.lang.Double.doubleToRawLongBits(number)
      case number: Float => java.lang.Float.floatToRawIntBits(number)
      case other => other
    }
    rows.mapPartitions { part =>
      val found = ArrayBuffer.empty[Any]
      try part.foreach(row => found += row.copy().toSeq(schema).map(bits))
      catch { case NonFatal(error) => found ++= causes(error).map(described) }
      Iterator(found.toSeq)
    }.collect().toSeq
  }

  /** Only by class where univocity says how many lines its parser has seen, or the JVM leaves out what is wrong. */
  private def described(error: Throwable): String = error match {
    case _: TextParsingException | _: ArrayIndexOutOfBoundsException => error.getClass.getName
    case _ => s"${error.getClass.getName}: ${error.getMessage}"
  }

  private def causes(error: Throwable): Seq[Throwable] =
    Iterator.iterate(error)(_.getCause).takeWhile(_ != null).toSeq
}
