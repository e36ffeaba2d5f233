"""Partitions of different lengths, some of them empty: every row trains once in each epoch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cluster import session
from deadline import within
from points import estimator, points, weights

EPOCHS = 2
FIT_SECONDS = 60
# How Spark splits a file of 60,000 lines.
FILE_SPLITS = [5120, *[6144] * 8, 5728]
WITH_EMPTY = [0, 5120, 0, 0, 2001, 1, 0]


@pytest.fixture(scope="module")
def spark():
    """Three ranks in one JVM."""
    with session("local[3]") as spark:
        yield spark


def rows_used(model_dir: Path) -> list[int]:
    """The rows of each epoch, by the manifest of the newest checkpoint."""
    pointer = (model_dir / "checkpoint").read_text()
    [name] = re.findall(r'^model_checkpoint_path: "(.+)"', pointer, re.MULTILINE)
    content = (model_dir / f"{name}.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    flambeau = json.loads(header["__metadata__"]["flambeau"])
    return json.loads(flambeau["manifest"])["rows"]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("partitions", [FILE_SPLITS, WITH_EMPTY], ids=["file", "with_empty"])
def test_every_row_is_used_once_an_epoch_and_the_same_seed_gives_the_same_weights(
    spark, tmp_path, partitions, workers
):
    data = points(spark, partitions)

    def fit(run):
        model_dir = tmp_path / run
        stage = estimator(
            numWorkers=workers, batchSize=256, epochs=EPOCHS, modelDir=model_dir.as_uri()
        )
        model = within(FIT_SECONDS, f"a fit of {workers} workers", lambda: stage.fit(data))
        return rows_used(model_dir), weights(model, tmp_path / f"{run}-model")

    rows, bits = fit("first")
    assert rows == [sum(partitions)] * EPOCHS
    assert fit("second") == (rows, bits)


@pytest.mark.parametrize("partitions", [[5120, 0, 5728], [0, 0, 17], [1, 6144, 0]])
def test_partitions_go_to_the_ranks_as_they_are(spark, tmp_path, partitions):
    stage = estimator(numWorkers=3, batchSize=64, epochs=EPOCHS, modelDir=tmp_path.as_uri())
    within(FIT_SECONDS, "the fit", lambda: stage.fit(points(spark, partitions)))
    assert rows_used(tmp_path) == [sum(partitions)] * EPOCHS
