"""The data source `tfrecord` and `flambeau.dfutil` against TensorFlow, on local[2]."""

from __future__ import annotations

import numpy as np
import pytest
from cluster import session
from flambeau import dfutil
from flambeau.errors import DataException
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    FloatType,
    LongType,
    StringType,
    StructField,
    StructType,
)

INTS = [-(2**63), 2**63 - 1, 0, 127, 128, 300]
FLOATS = [float(np.float32(0.1)), -0.0, float("inf"), 2.0**-149]


@pytest.fixture(scope="module")
def spark():
    """One session for the module."""
    with session("local[2]") as spark:
        yield spark


@pytest.fixture(scope="module")
def tf():
    """TensorFlow, imported only where a test needs it."""
    import tensorflow

    return tensorflow


def feature(tf, values):
    """A feature of the kind that the first value asks for."""
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def example(tf, **features):
    """An encoded tf.train.Example."""
    features = {name: feature(tf, values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(tf, path, records, compression=""):
    """A file of records, by TensorFlow."""
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


def records(tf, folder, compression=""):
    """All records of the files in a folder, read by TensorFlow."""
    files = sorted(str(path) for path in folder.glob("part-*"))
    return [record.numpy() for record in tf.data.TFRecordDataset(files, compression)]


def test_files_of_tensorflow_are_read_with_a_schema_of_all_records(spark, tf, tmp_path):
    rows = [
        {"id": [1], "ints": INTS, "floats": FLOATS, "text": ["é".encode()], "bytes": [b"\xff\0"]},
        {"id": [2], "ints": [5], "text": [b""], "hint": [b"plain"]},
    ]
    write(tf, tmp_path / "data/one.tfrecord", [example(tf, **rows[0])])
    write(tf, tmp_path / "data/two.tfrecord", [example(tf, **rows[1])])
    folder = str(tmp_path / "data")
    loaded = dfutil.loadTFRecords(spark, folder, ["hint"])
    expected = {
        "bytes": BinaryType(),
        "floats": ArrayType(FloatType()),
        "hint": BinaryType(),
        "id": LongType(),
        "ints": ArrayType(LongType()),
        "text": StringType(),
    }
    assert dfutil.inferSchema(spark.sparkContext, folder, ["hint"]) == loaded.schema
    assert {field.name: field.dataType for field in loaded.schema} == expected
    first, second = sorted(loaded.collect(), key=lambda row: row.id)
    assert (first.ints, first.floats, first.text, bytes(first.bytes), first.hint) == (
        INTS,
        FLOATS,
        "é",
        b"\xff\0",
        None,
    )
    assert (second.ints, second.floats, second.text, second.bytes, bytes(second.hint)) == (
        [5],
        None,
        "",
        None,
        b"plain",
    )


@pytest.mark.parametrize(
    ("suffix", "compression"), [("", ""), (".gz", "GZIP"), (".zlib", "ZLIB"), (".zst", None)]
)
def test_tensorflow_reads_what_is_written(spark, tf, tmp_path, suffix, compression):
    frame = spark.createDataFrame(
        [(1, INTS, FLOATS, ["é", ""], bytearray(b"\xff"), True), (2, [], None, [], None, False)],
        "id INT, ints ARRAY<BIGINT>, floats ARRAY<FLOAT>, texts ARRAY<STRING>, raw BINARY, "
        "flag BOOLEAN",
    ).coalesce(1)
    folder = tmp_path / "written"
    names = {"": "none", ".gz": "gzip", ".zlib": "zlib", ".zst": "zstd"}
    frame.write.format("tfrecord").option("compression", names[suffix]).save(str(folder))
    (file,) = folder.glob("part-*")
    assert file.name.endswith(f".tfrecord{suffix}")
    assert spark.read.format("tfrecord").load(str(folder)).count() == 2
    if compression is None:
        return
    first, second = (
        tf.train.Example.FromString(record) for record in records(tf, folder, compression)
    )
    assert first == tf.train.Example.FromString(
        example(
            tf, id=[1], ints=INTS, floats=FLOATS, texts=["é".encode(), b""], raw=[b"\xff"], flag=[1]
        )
    )
    assert sorted(second.features.feature) == ["flag", "id", "ints", "texts"]
    assert second.features.feature["ints"].int64_list.value == []


def test_what_is_read_and_written_again_is_the_same_messages(spark, tf, tmp_path):
    examples = [example(tf, id=[i], x=[0.5 * i, 1.0], s=[b"\0", b"ab"]) for i in range(300)]
    write(tf, tmp_path / "data/one.tfrecord", examples)
    loaded = dfutil.loadTFRecords(spark, str(tmp_path / "data"))
    dfutil.saveAsTFRecords(loaded, str(tmp_path / "again"))
    again = [tf.train.Example.FromString(record) for record in records(tf, tmp_path / "again")]
    assert again == [tf.train.Example.FromString(record) for record in examples]


def test_sequence_examples_both_ways(spark, tf, tmp_path):
    lists = {
        "frames": [[0.5, 1.5], [2.5]],
        "words": [[b"a"], [b"bc"], [b""]],
    }
    message = tf.train.SequenceExample(
        context=tf.train.Features(feature={"id": feature(tf, [7])}),
        feature_lists=tf.train.FeatureLists(
            feature_list={
                name: tf.train.FeatureList(feature=[feature(tf, values) for values in steps])
                for name, steps in lists.items()
            }
        ),
    )
    write(tf, tmp_path / "data/one.tfrecord", [message.SerializeToString()] * 2)
    source = spark.read.format("tfrecord").option("recordType", "SequenceExample")
    loaded = source.load(str(tmp_path / "data"))
    assert loaded.collect()[0].asDict() == {
        "frames": [[0.5, 1.5], [2.5]],
        "id": 7,
        "words": [["a"], ["bc"], [""]],
    }
    loaded.coalesce(1).write.format("tfrecord").option("recordType", "SequenceExample").save(
        str(tmp_path / "again")
    )
    again = [tf.train.SequenceExample.FromString(r) for r in records(tf, tmp_path / "again")]
    assert again == [message, message]
    narrow = StructType([StructField("words", ArrayType(StringType()))])
    assert source.schema(narrow).load(str(tmp_path / "data")).first().words == ["a", "bc", ""]


def test_a_damaged_file_is_named_with_its_byte(spark, tf, tmp_path):
    path = tmp_path / "data/one.tfrecord"
    write(tf, path, [example(tf, id=[i]) for i in range(10)])
    damaged = bytearray(path.read_bytes())
    size = len(damaged) // 10
    damaged[3 * size + 14] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataException) as caught:
        dfutil.loadTFRecords(spark, str(tmp_path / "data"))
    assert str(path) in str(caught.value)
    assert f"corrupted record at {3 * size} (record 3)" in str(caught.value)
    reader = spark.read.format("tfrecord").option("mode", "PERMISSIVE")
    ids = [row.id for row in reader.load(str(tmp_path / "data")).collect()]
    assert ids == [0, 1, 2, 4, 5, 6, 7, 8, 9]
