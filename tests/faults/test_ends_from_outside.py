"""A JVM ends while native code runs in it: an executor by SIGTERM, and a driver by `kill -9`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest
from cluster import session
from deadline import eventually, result, started, within
from executors import Executor, executors, executors_of
from flambeau.errors import ConfigException
from flambeau.ml import KerasModel
from points import estimator, points, weights
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

FIT_SECONDS = 90
GONE_SECONDS = 20

DRIVER = """
import json
import sys
from pathlib import Path
settings, saved = json.loads(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = sys.argv[3:]
from cluster import session
from points import estimator, points, weights
with session("local-cluster[2,1,1024]") as spark:
    print("application", spark.sparkContext.applicationId, flush=True)
    model = estimator(batchSize=1, **settings).fit(points(spark, [3000, 3000]))
    model.write().save(str(saved))
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


@contextmanager
def _driver(folder: Path, **settings: object) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A driver of two executors that trains; its standard output, and its model in folder/saved."""
    paths = [str(Path(path).resolve()) for path in sys.path if path]
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps(settings), str(folder / "saved"), *paths],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "SPARK_LOCAL_DIRS": str(folder)},
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        try:
            yield driver, driver.stdout
        finally:
            if driver.poll() is None:
                for process in _family(driver.pid):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)


def _application(output: IO[str]) -> str:
    lines = iter(output.readline, "")
    return next(line.split()[1] for line in lines if line.startswith("application "))


def _training(application: str) -> set[Executor]:
    """Both executors, once their ranks train."""

    def seen() -> set[Executor] | None:
        found = executors_of(application)
        ranks = sorted(rank for executor in found for rank in executor.ranks)
        return found if ranks == [0, 1] else None

    return eventually(FIT_SECONDS, "both ranks training", seen)


def _kill(driver: subprocess.Popen[str], training: set[Executor]) -> None:
    """End Python and the JVM that it has started, but not the executors, which then end."""
    for process in _family(driver.pid) - {executor.pid for executor in training}:
        os.kill(process, signal.SIGKILL)
    eventually(
        GONE_SECONDS,
        "the end of the executors",
        lambda: not any(executor.runs for executor in training),
    )


def test_the_executors_of_a_killed_driver_end_and_leave_nothing(tmp_path):
    with _driver(tmp_path, epochs=1_000_000) as (driver, output):
        training = _training(_application(output))
        assert len(training) == 2
        _kill(driver, training)
    assert [name for name in os.listdir("/dev/shm") if "flambeau" in name] == []
    left = [str(file) for file in tmp_path.rglob("*flambeau*") if file.is_file()]
    assert left == []


def test_a_fit_whose_driver_was_killed_is_gone_on_with_when_it_is_started_again(spark, tmp_path):
    model_dir = tmp_path / "run"
    settings = {
        "modelDir": model_dir.as_uri(),
        "epochs": 4,
        "checkpointEverySteps": 250,
        "keepCheckpoints": 2,
        "verbose": 1,
    }
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with _driver(first, **settings) as (driver, output):
        training = _training(_application(output))
        eventually(FIT_SECONDS, "the second epoch", lambda: _newest(model_dir) > 3000)
        _kill(driver, training)
    left = _newest(model_dir)
    events = set((model_dir / "train").iterdir())
    assert len(events) == 1

    # Other settings are refused, and nothing is lost by that.
    data = points(spark, [3000, 3000])
    with pytest.raises(ConfigException, match=r"batchSize was 1 and is 2\. Try: .*resume=false"):
        within(FIT_SECONDS, "a fit", lambda: estimator(batchSize=2, **settings).fit(data))
    assert _newest(model_dir) == left

    with _driver(second, **settings) as (driver, output):
        said = within(2 * FIT_SECONDS, "the fit that is started again", output.read)
        assert within(GONE_SECONDS, "its end", driver.wait) == 0
    assert f"goes on from its ckpt-{left}.safetensors (resume=false starts anew)" in said
    assert not re.search(r"^epoch 1/4 ", said, re.MULTILINE), said
    assert "epoch 4/4 done" in said

    undisturbed = estimator(batchSize=1, epochs=4)
    model = within(2 * FIT_SECONDS, "the undisturbed fit", lambda: undisturbed.fit(data))
    again = KerasModel.load(str(second / "saved"))
    assert weights(again, tmp_path / "again") == weights(model, tmp_path / "undisturbed")
    # Of the checkpoints as many stay as are to be kept, whichever run left them; of events all.
    assert len(list(model_dir.glob("ckpt-*"))) == 2
    assert list(model_dir.glob(".*")) == []
    assert events < set((model_dir / "train").iterdir())
    for file in (model_dir / "train").iterdir():
        assert len(list(EventFileLoader(str(file)).Load())) > 3
    # A fit that has ended is not gone on with, but done anew.
    anew = estimator(**{**settings, "batchSize": 1000, "epochs": 1})
    within(FIT_SECONDS, "a fit of other settings", lambda: anew.fit(data))
    assert _newest(model_dir) == 3


def _newest(model_dir: Path) -> int:
    """The step of the checkpoint that the directory points to, 0 if there is none."""
    try:
        pointer = (model_dir / "checkpoint").read_text()
    except FileNotFoundError:
        return 0
    step = re.search(r'^model_checkpoint_path: "ckpt-(\d+)"$', pointer, re.MULTILINE)
    assert step and (model_dir / f"ckpt-{step[1]}.safetensors").is_file(), pointer
    return int(step[1])


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
