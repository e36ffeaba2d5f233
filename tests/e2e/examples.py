"""The examples, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 600


def run(name: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end within the deadline, on two executors if not said otherwise."""
    done = subprocess.run(
        [ROOT / "examples" / name / "run.sh"],
        env={**os.environ, "MASTER": "local-cluster[2,1,2048]", **settings},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return done
