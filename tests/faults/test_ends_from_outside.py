"""A JVM ends while native code runs in it: an executor by SIGTERM, and a driver by `kill -9`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import session
from deadline import eventually, result, started
from executors import executors, executors_of
from points import estimator, points

FIT_SECONDS = 90
GONE_SECONDS = 20

DRIVER = """
import sys
sys.path[:0] = sys.argv[1:]
from cluster import session
from points import estimator, points
with session("local-cluster[2,1,1024]") as spark:
    print("application", spark.sparkContext.applicationId, flush=True)
    estimator(batchSize=1, epochs=1_000_000).fit(points(spark, [6000, 6000]))
"""


def test_an_executor_that_is_told_to_end_in_training_leaves_no_crash_report(progress, spark):
    data = points(spark, [6000, 6000])
    fit = started(lambda: estimator(batchSize=1, epochs=3, verbose=1).fit(data))
    progress.await_epoch(1, fit, FIT_SECONDS)
    victim = next(iter(executors(spark)))
    folder = victim.log.parent
    victim.terminate()
    eventually(GONE_SECONDS, "the end of the executor", lambda: not victim.runs)
    model = result(fit, FIT_SECONDS, "the fit whose executor was told to end")
    assert len(model.history["loss"]) == 3
    assert list(folder.glob("hs_err*")) == []
    assert "SIGSEGV" not in (folder / "stderr").read_text()


@pytest.fixture
def spark():
    """Two executors of one core."""
    with session("local-cluster[2,1,1024]") as spark:
        yield spark


def test_the_executors_of_a_killed_driver_end_and_leave_nothing(tmp_path):
    folders = [str(Path(folder).resolve()) for folder in sys.path if folder]
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, *folders],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "SPARK_LOCAL_DIRS": str(tmp_path)},
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        lines = iter(driver.stdout.readline, "")
        application = next(line.split()[1] for line in lines if line.startswith("application "))
        training = eventually(
            FIT_SECONDS,
            "both ranks training",
            lambda: (
                sorted(rank for one in executors_of(application) for rank in one.ranks) == [0, 1]
                and executors_of(application)
            ),
        )
        assert len(training) == 2
        # Python and the JVM that it has started, but not the executors.
        for process in _family(driver.pid) - {one.pid for one in training}:
            os.kill(process, signal.SIGKILL)
    eventually(
        GONE_SECONDS,
        "the end of the executors",
        lambda: not any(executor.runs for executor in training),
    )
    assert [name for name in os.listdir("/dev/shm") if "flambeau" in name] == []
    left = [str(file) for file in tmp_path.rglob("*flambeau*") if file.is_file()]
    assert left == []


def _family(root: int) -> set[int]:
    """A process and all that it has started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(status.parent.name)] = int(fields[1])
    family = {root}
    while True:
        grown = family | {child for child, parent in parents.items() if parent in family}
        if grown == family:
            return family
        family = grown
