"""What the parity tests share: the native examples, real images, and a TensorFlow that repeats."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# oneDNN sums in an order that depends on the machine.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "build/data/fashion-mnist"
LIBTORCH = ROOT / "build/libtorch/lib"

Example = Callable[[str, Path], None]


@pytest.fixture(scope="session")
def example() -> Example:
    """Builds a native example and runs it on a case folder."""
    programs: dict[str, str] = {}

    def build(name: str) -> str:
        command = ["cargo", "build", "--release", "--message-format=json", "--workspace"]
        command += ["--example", name]
        built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        artifacts = [json.loads(line) for line in built.stdout.splitlines()]
        return next(a["executable"] for a in artifacts if a.get("executable"))

    def run(name: str, case: Path) -> None:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(LIBTORCH)}
        if name not in programs:
            programs[name] = build(name)
        command = [programs[name], str(case)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="session")
def images() -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST's training images, uint8 [60000, 28, 28, 1], and their classes, int64."""
    pixels = gzip.decompress((DATA / "train-images-idx3-ubyte.gz").read_bytes())
    classes = gzip.decompress((DATA / "train-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return x, np.frombuffer(classes, np.uint8, offset=8).astype(np.int64)
