"""Executors of a local Spark cluster are killed at random moments of a fit."""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("python", "python/tests", "tests/faults")]

from cluster import session  # noqa: E402
from deadline import result, started  # noqa: E402
from executors import executors  # noqa: E402
from points import estimator, points, weights  # noqa: E402

NAME = "kill -9 of a Spark executor"
FIT_SECONDS = 120
CRASH_SECONDS = 2.0


def run(tries: int) -> dict[str, Any]:
    """So many fits, each of which loses an executor; what became of them."""
    begin = time.monotonic()
    seed = int(os.environ.get("FLAMBEAU_SEED", time.time_ns() % 1_000_000))
    chance = random.Random(seed)
    detection: list[float] = []
    failures: list[str] = []
    with session("local-cluster[2,1,1024]") as spark, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = points(spark, [6000, 6000]).cache()
        stage = estimator(batchSize=1, epochs=3)
        fit = started(lambda: stage.fit(data))
        undisturbed = weights(result(fit, FIT_SECONDS, "the undisturbed fit"), folder / "reference")
        for number in range(tries):
            try:
                settings = {stage.modelDir: (folder / f"run-{number}").as_uri()}
                fit = started(lambda settings=settings: stage.copy(settings).fit(data))
                detection.append(_kill_one(spark, chance, fit))
                model = result(fit, FIT_SECONDS, "the fit whose executor was killed")
                assert weights(model, folder / f"model-{number}") == undisturbed, "other weights"
                assert detection[-1] <= CRASH_SECONDS, f"seen after {detection[-1]:.1f} s"
            except BaseException as error:  # pytest's failures are no Exceptions
                if isinstance(error, KeyboardInterrupt):
                    raise
                failures.append(f"{error} (try {number}, seed {seed})")
    detection.sort()
    return {
        "drill": NAME,
        "tried": tries,
        "survived": tries - len(failures),
        "detection_median_s": detection[len(detection) // 2] if detection else None,
        "detection_worst_s": detection[-1] if detection else None,
        "bound_s": CRASH_SECONDS,
        "skipped": None,
        "failures": failures,
        "seconds": time.monotonic() - begin,
    }


def _kill_one(spark: Any, chance: random.Random, fit: Any) -> float:
    """Kill an executor whose rank trains; seconds until the other one says that it is lost."""
    end = time.monotonic() + FIT_SECONDS
    while True:
        training = {tuple(executor.ranks): executor for executor in executors(spark)}
        if {(0,), (1,)} <= training.keys():
            break
        assert not fit.done() and time.monotonic() < end, "no fit is seen to train"
        time.sleep(0.02)
    time.sleep(chance.random() * 2)
    rank = chance.randrange(2)
    victim, survivor = training[(rank,)], training[(1 - rank,)]
    logged = survivor.log.stat().st_size
    log = survivor.log
    victim.kill()
    killed = time.monotonic()
    while time.monotonic() < killed + 20:
        lost = re.search(r"lost rank (\d+) ", log.read_text()[logged:])
        if lost:
            assert int(lost[1]) == rank, f"the survivor blames rank {lost[1]}, not {rank}"
            return time.monotonic() - killed
        time.sleep(0.005)
    raise AssertionError("the survivor does not name the lost rank")
