"""A fit is interrupted in the middle of an epoch: its job is cancelled, or an executor killed."""

from __future__ import annotations

import re

import pytest
from cluster import session
from deadline import eventually, result, started, within
from executors import executors
from points import estimator, points, weights

EPOCHS = 3
FIT_SECONDS = 60
# Who is told of the end of a rank or of its job knows by then.
NOTICED_SECONDS = 2


@pytest.fixture(scope="module")
def spark():
    """Two executors of one core."""
    with session("local-cluster[2,1,1024]") as spark:
        yield spark


@pytest.fixture(scope="module")
def data(spark):
    """Rows for two ranks."""
    return points(spark, [6000, 6000])


@pytest.fixture(scope="module")
def slow():
    """An estimator whose epochs last seconds."""
    return estimator(batchSize=1, epochs=EPOCHS, verbose=1)


@pytest.fixture(scope="module")
def undisturbed(spark, slow, data, tmp_path_factory):
    """The weights that the fit ends with when nothing happens."""
    model = within(FIT_SECONDS, "the undisturbed fit", lambda: slow.fit(data))
    return weights(model, tmp_path_factory.mktemp("undisturbed") / "model")


def test_cancelling_the_job_stops_native_work_and_leaves_the_executors_usable(
    spark, slow, data, progress
):
    def endless():
        spark.sparkContext.setJobGroup("endless", "a fit that somebody cancels")
        return slow.copy({slow.epochs: 1_000_000}).fit(data)

    fit = started(endless)
    progress.await_epoch(2, fit, FIT_SECONDS)
    before = executors(spark)
    assert sorted(rank for executor in before for rank in executor.ranks) == [0, 1]

    spark.sparkContext.cancelJobGroup("endless")
    eventually(
        NOTICED_SECONDS,
        "the end of all native trainer threads",
        lambda: not any(executor.ranks for executor in before),
    )
    with pytest.raises(Exception, match="cancelled"):
        result(fit, FIT_SECONDS, "the cancelled fit")

    model = within(FIT_SECONDS, "a fit after the cancelled one", lambda: estimator().fit(data))
    assert len(model.history["loss"]) == 2
    assert executors(spark) == before


@pytest.mark.parametrize(("rank", "has_model_dir"), [(0, True), (1, False)])
def test_a_survivor_names_the_killed_rank_and_the_retried_fit_ends_with_the_same_bits(
    spark, slow, data, undisturbed, progress, tmp_path, rank, has_model_dir
):
    settings = {slow.modelDir: (tmp_path / "run").as_uri()} if has_model_dir else {}
    fit = started(lambda: slow.copy(settings).fit(data))
    progress.await_epoch(2, fit, FIT_SECONDS)

    [victim] = [executor for executor in executors(spark) if executor.ranks == [rank]]
    [survivor] = executors(spark) - {victim}
    shown, logged = len(progress.lines()), survivor.log.stat().st_size
    victim.kill()
    lost = eventually(
        NOTICED_SECONDS,
        f"the loss of rank {rank} in {survivor.log}",
        lambda: re.search(r"lost rank (\d+) ", survivor.log.read_text()[logged:]),
    )
    assert int(lost[1]) == rank

    model = result(fit, FIT_SECONDS, "the fit whose executor was killed")
    assert weights(model, tmp_path / "model") == undisturbed
    assert len(model.history["loss"]) == EPOCHS
    # It goes on from where the survivor stood, with a directory for checkpoints or without.
    assert not any(line.startswith("epoch 1/") for line in progress.lines()[shown:])
