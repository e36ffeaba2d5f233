"""Two fits of one application at the same time, on the same executors."""

from __future__ import annotations

import pytest
from cluster import session
from deadline import eventually, result, started, within
from points import estimator, points, weights

FIT_SECONDS = 90
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def spark():
    """Two executors of two cores: four slots."""
    with session("local-cluster[2,2,1024]") as spark:
        yield spark


def test_both_end_with_what_each_gives_alone(spark, tmp_path):
    data = points(spark, [1500, 1500])

    def fit(seed):
        model = estimator(seed=seed, batchSize=1).fit(data)
        return weights(model, tmp_path / f"model-{seed}")

    alone = [within(FIT_SECONDS, "a fit alone", lambda seed=seed: fit(seed)) for seed in SEEDS]
    assert alone[0] != alone[1]

    fits = [started(lambda seed=seed: fit(seed)) for seed in SEEDS]
    tracker = spark.sparkContext.statusTracker()
    eventually(FIT_SECONDS, "two jobs at once", lambda: len(tracker.getActiveJobsIds()) == 2)
    together = [result(each, FIT_SECONDS, "one of two fits at once") for each in fits]
    assert together == alone
