"""A few tries of what `make drill` tries by the hundred, ranks as processes of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 300
# Those that take seconds of silence are left to `make drill`.
DRILLS = ["kill", "damaged", "connection cut", "half closed", "impostors", "hostile"]


@pytest.fixture(scope="module")
def drill() -> Path:
    """The program, built if need be."""
    build = ["cargo", "build", "--locked", "--release", "--quiet"]
    build += ["--package", "flambeau-collective", "--example", "drill"]
    subprocess.run(build, cwd=ROOT, check=True, timeout=DEADLINE_SECONDS)
    return ROOT / "target/release/examples/drill"


@pytest.mark.parametrize("name", DRILLS)
def test_every_try_survives_with_the_culprit_named_and_the_right_weights(drill, name):
    run = subprocess.run(
        [drill, "--short", name], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    reports = [json.loads(line) for line in run.stdout.splitlines()]
    assert reports, run.stderr
    for report in reports:
        assert report["failures"] == [], report
        assert report["survived"] == report["tried"] > 0
