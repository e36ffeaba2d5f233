"""Every way to train in a short form: what ranks send, and a model too large for one process."""

from __future__ import annotations

import json
import os
import subprocess

from examples import DEADLINE_SECONDS, ROOT


def test_ranks_send_what_they_must_and_a_large_model_trains_under_a_limit():
    settings = {"ROWS": "3072", "EPOCHS": "6", "WIDTH": "256", "LARGE_WIDTH": "2048"}
    subprocess.run(
        [ROOT / "tests/bench/strategies/run.sh"],
        env={**os.environ, **settings},
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    found = json.loads((ROOT / "build/bench/strategies-short.json").read_text())
    sent = [line for line in found if line["figure"].startswith("bytes")]
    assert len(sent) == 12
    # Epochs of asynchronous workers end with the last one's: there is no moment to count at.
    in_step = [line for line in sent if "async" not in line["figure"]]
    assert len(in_step) == 9
    for line in in_step:
        # Of 96 batches, counted while ranks go on.
        assert 0.7 < line["ratio"] < 1.4, line
