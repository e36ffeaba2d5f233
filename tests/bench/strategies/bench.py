"""What each way to train costs: rows per second, time to a loss, bytes on the wire, memory.

Usage: bench.py, with ROWS (12000), EPOCHS (6), WIDTH (1024) and LOSS (0.42) in the environment. A
perceptron of 784, WIDTH, WIDTH and 10 units learns ROWS images of Fashion-MNIST with Adam, an
update from 128 of them. Every rank is a process of its own with one thread, and they meet over TCP.
Bytes are those that a rank sends for 128 rows, beside what the algorithm has to send; memory is
the most that a rank ever had. Then a model trains that is too large for one process: see large.py.
Prints tables, then figure, ours, peer, ratio, aim; writes these to build/bench/strategies.json, or
to strategies-short.json with other settings.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import large
from fashion import images, labels
from ranks import ROOT, Fit, Rows, run

USUAL = {"ROWS": 12_000, "EPOCHS": 6, "WIDTH": 1024, "LOSS": 0.42}
GIVEN = {name: type(usual)(os.environ.get(name, usual)) for name, usual in USUAL.items()}
BATCH, PIXELS, CLASSES = 128, 784, 10
# Rows to validate with for each that trains.
VALIDATED = 1 / 6
LOCAL_STEPS, ACCUMULATED, PARTS = 8, 4, 4
MIB = 1 << 20


def dense(name: str, units: int, activation: str) -> dict[str, Any]:
    """A layer of Keras's JSON."""
    config = {"name": name, "units": units, "activation": activation}
    return {"class_name": "Dense", "config": config}


def model(width: int) -> dict[str, Any]:
    """The perceptron, in Keras's JSON."""
    image = {"name": "image", "batch_shape": [None, PIXELS]}
    layers = [
        {"class_name": "InputLayer", "config": image},
        {"class_name": "Rescaling", "config": {"name": "scale", "scale": 1 / 255, "offset": 0.0}},
        dense("first", width, "relu"),
        dense("second", width, "relu"),
        dense("classes", CLASSES, "softmax"),
    ]
    return {"class_name": "Sequential", "config": {"name": "perceptron", "layers": layers}}


@dataclass
class Way:
    """A way to train, and the bytes that all ranks have to send for a batch."""

    fit: Fit
    theory: float


def ways(width: int) -> list[Way]:
    """All of them."""
    weights = 4 * (PIXELS * width + width + width * width + width + width * CLASSES + CLASSES)
    # What a layer gives goes on, of rows to validate with, too, and gradients come back.
    there_and_back = 4 * BATCH * width * (2 + VALIDATED)

    def summed(ranks: int) -> int:
        return 2 * (ranks - 1) * weights

    accumulating = {
        "optimizer": {"class_name": "Adam", "config": {"gradient_accumulation_steps": ACCUMULATED}},
        "batch_size": BATCH // ACCUMULATED,
    }

    def served(servers: int, workers: int) -> Fit:
        settings = {"strategy": "async", "num_ps": servers, "global_batch": False}
        return Fit(f"`async`, {servers} servers, {workers} workers", settings, servers, workers)

    def meshed(name: str, replicas: int = 1, **mesh: Any) -> Fit:
        ranks = mesh.get("pipeline", 1) * mesh.get("tensor", 1)
        return Fit(name, {"mesh": mesh}, 0, replicas, ranks)

    sharded = {"shard_optimizer_state": True}
    stages = {"pipeline": 2, "micro_batches": PARTS}
    return [
        Way(Fit("one process"), 0.0),
        Way(Fit("`sync`, 2 workers", replicas=2), summed(2)),
        Way(Fit("`sync`, 4 workers", replicas=4), summed(4)),
        Way(Fit("2 workers, `shardOptimizerState`", sharded, replicas=2), summed(2)),
        Way(
            Fit(f"2 workers, {ACCUMULATED} batches accumulated", accumulating, replicas=2),
            ACCUMULATED * summed(2),
        ),
        Way(
            Fit(f"2 workers, `localSteps` {LOCAL_STEPS}", {"local_steps": LOCAL_STEPS}, replicas=2),
            # Adam's two moments are averaged, too.
            3 * summed(2) / LOCAL_STEPS,
        ),
        Way(served(1, 2), 2 * weights),
        Way(served(2, 2), 2 * weights),
        # Each has half of the weights.
        Way(served(0, 2), weights),
        Way(meshed("2 stages, `gpipe`", **stages, schedule="gpipe"), there_and_back),
        Way(meshed("2 stages, `1f1b`", **stages, schedule="1f1b"), there_and_back),
        # Rows go to both. The outputs of the second layer are summed, and the gradients of what the
        # third took.
        Way(
            meshed("`tensorParallel` 2", tensor=2),
            2 * there_and_back + BATCH * PIXELS * (1 + VALIDATED),
        ),
        Way(
            meshed("2 replicas of 2 stages", replicas=2, **stages, schedule="1f1b"),
            there_and_back + summed(2),
        ),
    ]


def measure(way: Way, rows: Rows, validation: Rows, folder: Path) -> dict[str, Any]:
    """Train; what it took."""
    fit, settings = way.fit, way.fit.settings
    fit.settings = {
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "batch_size": BATCH,
        "global_batch": True,
        "epochs": GIVEN["EPOCHS"],
        **settings,
    }
    outcome = run(fit, model(GIVEN["WIDTH"]), rows, validation, folder)
    if outcome.failures:
        sys.exit(f"{fit.name}: {outcome.failures}")
    # From the end of an epoch to that of another, at both of which the next one has begun.
    (begin, before, _), *between = outcome.epochs[:-1]
    end, after, _ = between[-1]
    trained = sum(epoch["rows"] for _, _, epoch in between)
    low = [at for at, _, epoch in outcome.epochs if epoch["logs"]["val_loss"] <= GIVEN["LOSS"]]
    return {
        "strategy": fit.name,
        "processes": fit.ranks,
        "rows_per_second": trained / (end - begin),
        "seconds_to_loss": min(low, default=None),
        "bytes": (after - before) / (trained / BATCH) / fit.ranks,
        "theory": way.theory / fit.ranks,
        "memory": outcome.memory,
    }


def figures(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside one process, and beside what has to be sent."""
    alone, *others = found
    lines = []
    for one in others:
        name = one["strategy"]
        peers = [
            ("rows/s", "rows_per_second", "one process", alone["rows_per_second"], ""),
            ("bytes per batch and rank", "bytes", "the theory", one["theory"], "at most 1.1"),
            ("most memory of a rank", "memory", "one process", max(alone["memory"]), ""),
        ]
        for figure, key, peer, theirs, aim in peers:
            ours = max(one[key]) if key == "memory" else one[key]
            line = {"figure": f"{figure}, {name}", "ours": ours, "peer": peer, "theirs": theirs}
            lines.append({**line, "ratio": ours / theirs, "aim": aim})
    return lines


def files(folder: Path) -> tuple[Rows, Rows]:
    """Images to learn from, and some to validate with."""
    rows = []
    for kind, count in (("train", GIVEN["ROWS"]), ("t10k", int(GIVEN["ROWS"] * VALIDATED))):
        values, classes = folder / f"{kind}-images", folder / f"{kind}-labels"
        values.write_bytes(images(kind)[:count].tobytes())
        classes.write_bytes(labels(kind)[:count].astype("u1").tobytes())
        rows.append(Rows(values, classes, PIXELS, count))
    return rows[0], rows[1]


def table(found: list[dict[str, Any]]) -> None:
    """Print what was found."""
    print(
        f"| strategy | processes | rows/s | s to a loss of {GIVEN['LOSS']} | MiB sent | "
        "theory | MiB of memory |"
    )
    print("|---|---|---|---|---|---|---|")
    for one in found:
        reached = one["seconds_to_loss"]
        print(
            f"| {one['strategy']} | {one['processes']} | {one['rows_per_second']:,.0f} | "
            f"{'-' if reached is None else f'{reached:.1f}'} | {one['bytes'] / MIB:.2f} | "
            f"{one['theory'] / MIB:.2f} | "
            f"{', '.join(f'{memory / MIB:,.0f}' for memory in one['memory'])} |",
            flush=True,
        )


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, validation = files(folder)
        every = ways(GIVEN["WIDTH"])
        found = [measure(way, rows, validation, folder / "fits") for way in every]
    table(found)
    lines = figures(found) + large.prove()
    print("\n| figure | ours | peer | | ratio | aim |\n|---|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line['figure']} | {line['ours']:,.0f} | {line['peer']} | {line['theirs']:,.0f} | "
            f"{line['ratio']:.3f} | {line['aim']} |"
        )
    usual = GIVEN == USUAL and large.WIDTH == large.USUAL_WIDTH
    file = ROOT / "build" / "bench" / ("strategies.json" if usual else "strategies-short.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(lines, indent=1))


main()
