"""What the fault tests share: the progress that a user sees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deadline import eventually


@dataclass(frozen=True)
class Progress:
    """What fits of this driver with verbose=1 have printed."""

    file: Path

    def lines(self) -> list[str]:
        """One line per step or epoch shown."""
        return self.file.read_text().splitlines()

    def await_epoch(self, epoch: int, fit: Future[Any], seconds: float) -> None:
        """Return when that epoch of `fit`, or a later one, is on its way."""

        def seen() -> bool:
            epochs = re.findall(r"^epoch (\d+)/\d+ step ", self.file.read_text(), re.MULTILINE)
            if any(int(found) >= epoch for found in epochs):
                return True
            if fit.done():
                fit.result()
                pytest.fail(f"the fit was over before epoch {epoch} was seen: {self.lines()}")
            return False

        eventually(seconds, f"training in epoch {epoch}", seen)


@pytest.fixture
def progress(spark, tmp_path: Path) -> Iterator[Progress]:
    """The standard output of the driver's JVM, from now on."""
    java = spark._jvm.java
    file = tmp_path / "stdout"
    out = java.lang.System.out
    java.lang.System.setOut(java.io.PrintStream(str(file)))
    yield Progress(file)
    java.lang.System.setOut(out)
