// SPDX-License-Identifier: Apache-2.0
package io.flambeau.data

import org.apache.hadoop.fs.Path
import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.ConfigException

class TfRecordOptionsSuite extends AnyFunSuite {

  private def options(values: (String, String)*): TfRecordOptions = new TfRecordOptions(values.toMap)

  private def refusal(values: (String, String)*): String = intercept[ConfigException](options(values: _*)).getMessage

  test("without options, whole and plain files of Examples are expected") {
    val defaults = options()
    assert(defaults.recordType == RecordType.Example && !defaults.permissive)
    assert(defaults.binaryFeatures.isEmpty && defaults.sampleRecords.isEmpty)
    assert(defaults.writtenCompression == Compression.Plain)
  }

  test("names and values may have any case") {
    val chosen = options("RECORDTYPE" -> "sequenceexample", "Mode" -> "permissive", "compression" -> "GZIP")
    assert(chosen.recordType == RecordType.SequenceExample && chosen.permissive)
    assert(chosen.writtenCompression == Compression.Gzip)
  }

  test("a value that is none is refused with the option and its values") {
    assert(refusal("recordType" -> "Sample") ==
      "tfrecord: option recordType must be Example, SequenceExample or ByteArray, not 'Sample'")
    assert(refusal("mode" -> "DROPMALFORMED").contains("mode must be FAILFAST or PERMISSIVE, not 'DROPMALFORMED'"))
    assert(refusal("compression" -> "lzo").contains("compression must be none, gzip, zlib or zstd, not 'lzo'"))
    assert(refusal("splitFiles" -> "maybe").contains("splitFiles must be true or false"))
    assert(refusal("sampleRecords" -> "0").contains("sampleRecords must be a whole number of at least 1, not '0'"))
  }

  test("features of bytes are listed by commas") {
    assert(options("binaryFeatures" -> " image , mask,").binaryFeatures == Set("image", "mask"))
  }

  test("a file's name tells its compression, unless the option does") {
    val names = Seq("a.tfrecord", "a.tfrecord.gz", "a.gzip", "a.zlib", "a.deflate", "a.zst", "a.zstd")
    val found = names.map(name => options().compressionOf(new Path("/data.gz", name)).name)
    assert(found == Seq("none", "gzip", "gzip", "zlib", "zlib", "zstd", "zstd"))
    assert(options("compression" -> "none").compressionOf(new Path("/a.gz")) == Compression.Plain)
  }

  test("only plain files are split, and none whose records may be damaged") {
    val plain = new Path("/a.tfrecord")
    assert(options().isSplitable(plain))
    assert(!options().isSplitable(new Path("/a.tfrecord.gz")))
    assert(!options("mode" -> "PERMISSIVE").isSplitable(plain))
    assert(!options("splitFiles" -> "false").isSplitable(plain))
  }
}
