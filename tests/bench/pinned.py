"""Runs a benchmark's command in a process of its own, on one core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def output(
    command: list[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    pinned: bool = True,
) -> str:
    """Run a command in a folder to its end; what it printed. Ends the benchmark if it fails."""
    pin = ["taskset", "-c", "0"] if pinned else []
    done = subprocess.run(
        [*pin, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout
