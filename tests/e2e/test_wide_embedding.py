"""A click model with a wide embedding in a small form: what travels, and what a worker holds."""

from __future__ import annotations

import json
import os
import subprocess

from examples import DEADLINE_SECONDS, ROOT

IDS, WIDTH = 1_000_000, 16


def test_rows_that_nobody_looks_up_neither_travel_nor_are_on_workers():
    subprocess.run(
        [ROOT / "tests/bench/wide/run.sh"],
        env={**os.environ, "IDS": str(IDS)},
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    found = json.loads((ROOT / f"build/bench/wide-{IDS}.json").read_text())["ways"]
    apart, in_step, _ = found
    weights = 4 * IDS * WIDTH
    assert apart["bytes_per_batch"] < 2 * weights / 50
    assert in_step["bytes_per_batch"] < 2 * weights / 50
    # Weights and their gradients.
    assert max(apart["workers"]) < min(in_step["workers"]) - 2 * weights
