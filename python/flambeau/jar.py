"""The jar that Spark needs: where it is, and how a session gets it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries the jar; in a checkout it lies where Maven puts it.
_PLACES = (_PACKAGE / "jars", _PACKAGE.parent.parent / "jvm" / "target")


def jar_path() -> str:
    """Return the path of the Flambeau jar, for `spark.jars` or `spark-submit --jars`.

    Raises FileNotFoundError when neither the installed package nor the checkout has it.
    """
    for place in _PLACES:
        for jar in sorted(place.glob("flambeau-spark*.jar")):
            return str(jar)
    looked = " nor in ".join(str(place) for place in _PLACES)
    raise FileNotFoundError(
        f"the Flambeau jar is not in {looked}: install the flambeau wheel, or run `make build`"
    )


def configure(builder: SparkSession.Builder) -> SparkSession.Builder:
    """Give the session that `builder` makes the Flambeau jar, through `spark.jars`.

    For a session with more jars set `spark.jars` yourself, with `jar_path()` among them. It has no
    effect on a session that is running already.
    """
    return builder.config("spark.jars", jar_path())
