"""TFRecords and DataFrames, by the function names that users of TensorFlowOnSpark know.

All of it is Spark's data source `tfrecord`, which has more options: `spark.read.format("tfrecord")`
and `df.write.format("tfrecord")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark import SparkContext
from pyspark.sql import SparkSession

from flambeau.errors import from_jvm

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

_FORMAT = "tfrecord"


@from_jvm()
def saveAsTFRecords(df: DataFrame, output_dir: str) -> None:  # noqa: N802
    """Write the rows of `df` to the new folder `output_dir`, each as one tf.train.Example.

    Integers and booleans become an Int64List, floats and doubles a FloatList (float32), strings and
    binary a BytesList, arrays a list of their kind; a null is a feature left out.
    """
    df.write.format(_FORMAT).save(output_dir)


@from_jvm()
def loadTFRecords(  # noqa: N802
    sc: SparkContext | SparkSession, input_dir: str, binary_features: Sequence[str] = ()
) -> DataFrame:
    """Return the tf.train.Examples of the files in `input_dir`, a column for each feature.

    Features that are in only some records are null in the others; a feature with more than one
    value in any record is an array. Bytes are strings where all are UTF-8, else binary, which
    those named in `binary_features` always are.
    """
    reader = _session(sc).read.format(_FORMAT)
    return reader.option("binaryFeatures", ",".join(binary_features)).load(input_dir)


def inferSchema(  # noqa: N802
    sc: SparkContext | SparkSession, input_dir: str, binary_features: Sequence[str] = ()
) -> StructType:
    """Return the schema that `loadTFRecords` gives the files, from all of their records."""
    return loadTFRecords(sc, input_dir, binary_features).schema


def _session(sc: SparkContext | SparkSession) -> SparkSession:
    return SparkSession(sc) if isinstance(sc, SparkContext) else sc
