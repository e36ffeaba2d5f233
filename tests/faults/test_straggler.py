"""An executor stands still for a while, as one whose host swaps: the fit says for whom it waits."""

from __future__ import annotations

import re

import pytest
from cluster import session
from deadline import eventually, result, started
from executors import executors
from points import estimator, points

FIT_SECONDS = 90
# The executor stands still for less than the ten seconds after which a rank counts as lost.
WARNED_SECONDS = 8


@pytest.fixture
def spark():
    """Two executors of one core, which name a straggler after two seconds instead of thirty."""
    sooner = {
        "spark.flambeau.internal.stragglerAfter": "2s",
        "spark.executor.heartbeatInterval": "1s",
    }
    with session("local-cluster[2,1,1024]", sooner) as spark:
        yield spark


def test_a_rank_that_holds_the_others_up_is_named_on_the_driver_and_in_the_executors_logs(
    spark, progress
):
    data = points(spark, [6000, 6000])
    fit = started(lambda: estimator(batchSize=1, epochs=1_000_000, verbose=1).fit(data))
    progress.await_epoch(1, fit, FIT_SECONDS)
    [slow] = [executor for executor in executors(spark) if executor.ranks == [1]]
    [other] = executors(spark) - {slow}
    logs = [slow.log, other.log]
    slow.pause()
    try:
        waits = eventually(
            WARNED_SECONDS,
            f"a warning in {other.log}",
            lambda: re.search(
                r"waiting \d s for rank 1 \(\S+\) in allreduce\S* \d+ \(\S+ k?B\), step \d+: "
                r"it has begun operation \d+ so far",
                other.log.read_text(),
            ),
        )
    finally:
        slow.go_on()
    eventually(
        FIT_SECONDS,
        "the same words in both logs",
        lambda: all(waits[0] in log.read_text() for log in logs),
    )
    warning = f"warning: {waits[0]}"
    eventually(FIT_SECONDS, "these on the driver", lambda: warning in progress.lines())
    # The fit goes on, with both executors.
    epoch = int(re.findall(r"^epoch (\d+)/", "\n".join(progress.lines()), re.MULTILINE)[-1])
    progress.await_epoch(epoch + 1, fit, FIT_SECONDS)
    assert executors(spark) == {slow, other}
    spark.sparkContext.cancelAllJobs()
    with pytest.raises(Exception, match="cancelled"):
        result(fit, FIT_SECONDS, "the cancelled fit")
