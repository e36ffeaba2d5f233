// SPDX-License-Identifier: Apache-2.0
package io.flambeau.cli

import java.io.{ByteArrayOutputStream, PrintStream}

import org.scalatest.funsuite.AnyFunSuite

class ArgumentsSuite extends AnyFunSuite {
  private val flags = Seq(
    Flag("data", "the table", required = true),
    Flag("epochs", "passes", default = Some("1")),
    Flag("metrics", "names"))

  private def parse(args: String*): Arguments = Arguments.parse("train", flags, args)

  private def refusal(args: String*): String = intercept[UsageException](parse(args: _*)).getMessage

  test("options have values, defaults or nothing") {
    val arguments = parse("--data", "d", "--metrics", "accuracy, mae")
    assert(arguments("data") == "d")
    assert(arguments.count("epochs") == 1)
    assert(arguments.list("metrics").contains(Seq("accuracy", "mae")))
    assert(parse("--data", "d").list("metrics").isEmpty)
  }

  test("a spec in JSON is one item, whatever its commas") {
    val spec = """{"class_name":"MeanAbsoluteError","config":{}}"""
    assert(parse("--data", "d", "--metrics", spec).list("metrics").contains(Seq(spec)))
  }

  test("what is wrong is said before the usage") {
    assert(refusal().startsWith("--data is missing\nusage: train"))
    assert(refusal("--data").startsWith("--data needs a value"))
    assert(refusal("--data", "--epochs").startsWith("--data needs a value"))
    assert(refusal("--dta", "d").startsWith("unknown option '--dta'"))
    assert(refusal("--data", "d", "--data", "e").startsWith("--data is given twice"))
    val zero = intercept[UsageException](parse("--data", "d", "--epochs", "0").count("epochs"))
    assert(zero.getMessage.startsWith("--epochs must be a whole number of at least 1, not '0'"))
  }

  test("a wrong command line ends with 2 and lists the commands") {
    val text = new ByteArrayOutputStream
    val stream = new PrintStream(text, true)
    assert(Main.run(Seq("tarin"), stream, stream) == 2)
    assert(text.toString.startsWith("unknown command 'tarin'; the commands are:\n  prepare"))
    assert(Main.run(Seq(), stream, stream) == 2)
    assert(Main.run(Seq("train", "--data", "d"), stream, stream) == 2)
  }
}
