"""A libtorch whose part for GPUs is the stand-in of cuda.cpp: `cuda:0`, computed on the CPU."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "stand-in"


def stand_in() -> Path:
    """Build it if need be; the folder that holds its libraries."""
    command = [ROOT / "tests" / "device" / "build.sh", FOLDER]
    subprocess.run(command, check=True, timeout=600)
    return FOLDER / "lib"
