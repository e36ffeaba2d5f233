"""What the peers share: the data of a case, and how they report."""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


class Case:
    """A prepared model: its data, and how much of it is timed."""

    def __init__(self, folder: str) -> None:
        """Read what `prepare.py` wrote."""
        self.folder = Path(folder)
        self.name = self.folder.name
        self.settings = json.loads((self.folder / "settings.json").read_text())
        tensors = load_file(self.folder / "data.safetensors")
        self.x: np.ndarray = tensors["x"]
        self.y: np.ndarray = tensors["y"]
        self.batch: int = self.settings["batch"]
        self.rows: int = self.settings["steps"] * self.batch
        self.predicted: int = self.settings["predicted"]
        self.predict_batch: int = self.settings["predict_batch"]


def report(rows: int, run: Callable[[], object]) -> None:
    """Time one run after another that warmed up; print rows a second and the peak memory in MB."""
    start = time.perf_counter()
    run()
    rate = rows / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": rate, "memory": peak}))
