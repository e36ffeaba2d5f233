"""Fits whose ranks are processes of this host, each with a libtorch thread of its own."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sockets import sent

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "target" / "release" / "examples" / "strategy_bench"
DEADLINE_SECONDS = 1200


@dataclass
class Rows:
    """Rows in two files: `width` bytes each in one, a label each in the other."""

    values: Path
    labels: Path
    width: int
    count: int

    def part(self, index: int, of: int) -> dict[str, Any]:
        """What a rank has of them."""
        first, end = index * self.count // of, (index + 1) * self.count // of
        return {**self.json(), "first": first, "count": end - first}

    def none(self) -> dict[str, Any]:
        """What a rank has of them that has none."""
        return {**self.json(), "first": 0, "count": 0}

    def json(self) -> dict[str, Any]:
        """Where they are."""
        return {"values": str(self.values), "labels": str(self.labels), "width": self.width}


@dataclass
class Fit:
    """A way to train: how many servers, ranks with rows, and ranks behind each of these."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    servers: int = 0
    replicas: int = 1
    of_replica: int = 1
    # Where it writes checkpoints and the export, if it does.
    folder: Path | None = None
    # RLIMIT_DATA of each process, in bytes.
    limit: int | None = None

    @property
    def ranks(self) -> int:
        """Processes."""
        return self.servers + self.replicas * self.of_replica


@dataclass
class Outcome:
    """What a fit came to."""

    # Seconds since the first step, bytes sent by all ranks, and what rank 0 is told.
    epochs: list[tuple[float, int, dict[str, Any]]]
    # The most that each rank had in memory.
    memory: list[int]
    # The last event of each rank.
    ends: list[dict[str, Any]]

    @property
    def failures(self) -> list[str]:
        """What ranks failed with."""
        return [end["message"] for end in self.ends if end["event"] == "failed"]


def session(fit: Fit, rank: int, folder: Path) -> dict[str, Any]:
    """What a rank's session is opened with."""
    return {
        "rank": rank,
        "threads": 1,
        "local_dir": str(folder),
        "cache_bytes": 1 << 40,
        "model_dir": fit.folder is not None,
        "server_hosts": ["127.0.0.1"],
        "collective": {
            "run_id": re.sub(r"\W", "-", fit.name),
            "stage_id": 0,
            "stage_attempt": 0,
            "rank": rank,
            "world_size": fit.ranks,
            "hosts": ["127.0.0.1"] * fit.ranks,
            "bind_host": "127.0.0.1",
            "port": 32300,
            "port_retries": 64,
            "rendezvous_timeout_ms": 120_000,
            "progress_timeout_ms": 300_000,
            "transports": "tcp",
        },
        "columns": {"features": ["values"], "labels": ["label"], "weight": None},
        "fit": {"seed": 1, **fit.settings},
    }


def limited(limit: int | None) -> Callable[[], None] | None:
    """What gives a process that starts its limit."""
    if limit is None:
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def run(fit: Fit, model: dict[str, Any], rows: Rows, validation: Rows, folder: Path) -> Outcome:
    """Train to the end of the fit, or its failure."""
    processes = []
    started = time.monotonic()
    for rank in range(fit.ranks):
        own = (fit.folder or folder) / str(rank)
        own.mkdir(parents=True, exist_ok=True)
        worker, behind = divmod(rank - fit.servers, fit.of_replica)
        has_rows = rank >= fit.servers and behind == 0
        given = {
            "session": session(fit, rank, own),
            "model": model,
            "rows": rows.part(worker, fit.replicas) if has_rows else rows.none(),
            "validation": validation.part(worker, fit.replicas) if has_rows else validation.none(),
        }
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [ROOT / "scripts" / "with-libtorch.sh", PROGRAM, json.dumps(given)],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                preexec_fn=limited(fit.limit),
            )
        )
    end = threading.Timer(DEADLINE_SECONDS, lambda: [process.kill() for process in processes])
    end.start()
    outcome = Outcome([], [], [])
    try:
        for rank, process in enumerate(processes):
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                match event["event"]:
                    case "memory":
                        outcome.memory.append(event["memory"])
                    case "done" | "failed":
                        outcome.ends.append(event)
                    case "started" if rank == 0:
                        started = time.monotonic()
                    case "epoch" if rank == 0:
                        now = time.monotonic() - started
                        outcome.epochs.append((now, sent(processes), event))
            process.wait()
    finally:
        end.cancel()
        for process in processes:
            process.kill()
    if len(outcome.ends) < fit.ranks:
        raise RuntimeError(f"a rank ended without a word: {fit.name}")
    return outcome
