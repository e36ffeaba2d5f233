"""The executor processes of a Spark application in `local-cluster`, seen through /proc."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Executor:
    """One executor's JVM."""

    pid: int

    @property
    def log(self) -> Path:
        """The file that holds its log; it outlives the process."""
        return Path(os.readlink(f"/proc/{self.pid}/cwd")) / "stderr"

    @property
    def ranks(self) -> list[int]:
        """The ranks that train in it now, by their native threads."""
        names = [_read(task / "comm").strip() for task in Path(f"/proc/{self.pid}/task").glob("*")]
        # The system keeps the first fifteen characters of a thread's name.
        ranks = [re.fullmatch(r"flambeau-(\d+) t\w*", name) for name in names]
        return [int(rank[1]) for rank in ranks if rank]

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return "CoarseGrainedExecutorBackend" in _read(Path(f"/proc/{self.pid}/cmdline"))

    def kill(self) -> None:
        """End it as `kill -9` does."""
        os.kill(self.pid, signal.SIGKILL)

    def pause(self) -> None:
        """Have it stand still, all of its threads."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on where it stands."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """End it as `kill` does, with the JVM's own way out."""
        os.kill(self.pid, signal.SIGTERM)


def executors(spark: SparkSession) -> set[Executor]:
    """Every executor of the session that runs now."""
    return executors_of(spark.sparkContext.applicationId)


def executors_of(application: str) -> set[Executor]:
    """Every executor of the application that runs now."""
    return {
        Executor(int(process.name))
        for process in Path("/proc").glob("[0-9]*")
        if {"org.apache.spark.executor.CoarseGrainedExecutorBackend", application}
        <= set(_read(process / "cmdline").split("\0"))
    }


def _read(file: Path) -> str:
    """The text of a file of /proc; none of a process that has just ended."""
    try:
        return file.read_text()
    except OSError:
        return ""
