"""The example programs of native/formats, built once and run by the tests."""

import functools
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


@functools.cache
def examples() -> Path:
    """The folder of the programs."""
    build = ["cargo", "build", "--quiet", "--release", "-p", "flambeau-formats", "--examples"]
    subprocess.run(build, cwd=ROOT, check=True, timeout=600)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples"


def run_example(name: str, *arguments: str) -> str:
    """What the program prints; its errors are in the exception."""
    command = [str(examples() / name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
