"""What a click model with a wide embedding takes: rows per second, bytes on the wire, memory.

Usage: bench.py, with IDS (10000000) in the environment: an embedding of so many rows by 16. Every
rank is a process of its own, and they meet over TCP. Asynchronously, through two servers, two
workers train, with rows of the embedding that only travel where a batch looks them up; in step, two
ranks, which keep the optimizer's state each or in parts (shardOptimizerState). Bytes are those that
all ranks send, for each batch of a worker; the dense equivalent is all weights and all gradients.
Prints a table, then figure, ours, peer, ratio, aim;
writes them to build/bench/wide.json, or wide-IDS.json for other IDS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sockets import sent  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "target" / "release" / "examples" / "wide_bench"
MANY = 10_000_000
IDS = int(os.environ.get("IDS", MANY))
WIDTH, FIELDS, BATCH = 16, 8, 512
DEADLINE = 900
MIB = 1 << 20


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    """A layer of Keras's JSON."""
    return {"class_name": kind, "config": {"name": name, **config}}


MODEL = {
    "class_name": "Sequential",
    "config": {
        "name": "clicks",
        "layers": [
            layer("InputLayer", "ids", batch_shape=[None, FIELDS], dtype="int32"),
            layer("Embedding", "embedding", input_dim=IDS, output_dim=WIDTH),
            layer("Flatten", "flat"),
            layer("Dense", "hidden", units=64, activation="relu"),
            layer("Dense", "click", units=1, activation="sigmoid"),
        ],
    },
}


@dataclass
class Way:
    """A way to train: how many servers and workers, settings, batches of each worker."""

    name: str
    servers: int
    workers: int
    batches: int
    settings: dict[str, Any] = field(default_factory=dict)


WAYS = [
    Way("async, 2 servers and 2 workers", 2, 2, 600, {"strategy": "async", "num_ps": 2}),
    Way("in step, 2 workers", 0, 2, 600),
    Way("in step, state in parts", 0, 2, 600, {"shard_optimizer_state": True}),
]


def session(way: Way, rank: int, folder: str) -> dict[str, Any]:
    """What a rank's session is opened with."""
    ranks = way.servers + way.workers
    return {
        "rank": rank,
        "threads": 1,
        "local_dir": folder,
        "cache_bytes": 1 << 40,
        "model_dir": False,
        "server_hosts": ["127.0.0.1"],
        "collective": {
            "run_id": "wide",
            "stage_id": 0,
            "stage_attempt": 0,
            "rank": rank,
            "world_size": ranks,
            "hosts": ["127.0.0.1"] * ranks,
            "bind_host": "127.0.0.1",
            "port": 32200,
            "port_retries": 64,
            "rendezvous_timeout_ms": 120_000,
            "progress_timeout_ms": 300_000,
            "transports": "tcp",
        },
        "columns": {
            "features": [f"f{number}" for number in range(FIELDS)],
            "labels": ["label"],
            "weight": None,
        },
        "fit": {
            "optimizer": {"class_name": "Adagrad", "config": {"learning_rate": 0.05}},
            "loss": "binary_crossentropy",
            "batch_size": BATCH,
            "epochs": 1,
            "seed": 1,
            **way.settings,
        },
    }


def run(way: Way) -> dict[str, Any]:
    """Train; rows per second, bytes per batch, and the memory of each rank."""
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for rank in range(way.servers + way.workers):
            own = f"{folder}/{rank}"
            Path(own).mkdir()
            rows = BATCH * way.batches if rank >= way.servers else 0
            given = {"session": session(way, rank, own), "model": MODEL, "fields": FIELDS}
            given |= {"ids": IDS, "rows": rows}
            command = [ROOT / "scripts" / "with-libtorch.sh", PROGRAM, json.dumps(given)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            processes.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            )
        end = threading.Timer(DEADLINE, lambda: [process.kill() for process in processes])
        end.start()
        try:
            seen, memory, last = [], [], {}
            for process in processes:
                assert process.stdout is not None
                for line in process.stdout:
                    event = json.loads(line)
                    if event["event"] == "step":
                        seen.append((event["step"], sent(processes)))
                        last = event
                    else:
                        memory.append(event["memory"])
            if any(process.wait() for process in processes):
                sys.exit(f"a rank failed: {way.name}")
        finally:
            end.cancel()
            for process in processes:
                process.kill()
    (first, before), (final, after) = seen[0], seen[-1]
    batches = (final - first) * (1 if way.servers else way.workers)
    return {
        "way": way.name,
        "rows_per_second": last["rate"],
        "bytes_per_batch": (after - before) / batches,
        "servers": memory[: way.servers],
        "workers": memory[way.servers :],
    }


def main() -> None:
    """Measure, print, write."""
    weights = 4 * IDS * WIDTH
    dense = 2 * weights
    found = [run(way) for way in WAYS]
    print(f"\nembedding of {IDS:,} x {WIDTH}: {weights / MIB:,.0f} MiB; batches of {BATCH}")
    print("| way | rows/s | MiB per batch | of dense | MiB of servers | MiB of workers |")
    print("|---|---|---|---|---|---|")
    for one in found:
        of, rate = one["bytes_per_batch"], one["rows_per_second"]
        held = [", ".join(f"{m / MIB:,.0f}" for m in one[k]) for k in ("servers", "workers")]
        print(
            f"| {one['way']} | {rate:,.0f} | {of / MIB:,.2f} | {of / dense:.4f} | "
            f"{held[0]} | {held[1]} |"
        )
    apart, together, parts = found
    speed, size = "rows_per_second", "bytes_per_batch"
    lines = [
        ("bytes per batch, async", apart[size], "all of it", dense, "at most 0.01"),
        ("memory of a worker, async", max(apart["workers"]), "the embedding", weights, ""),
        ("bytes per batch, in step", together[size], "all of it", dense, "at most 0.01"),
        ("rows/s, in step", together[speed], "async", apart[speed], "at least 0.3"),
        ("bytes per batch, state in parts", parts[size], "in step", together[size], "at most 2"),
        ("rows/s, state in parts", parts[speed], "in step", together[speed], ""),
    ]
    print("\n| figure | ours | peer | | ratio | aim |\n|---|---|---|---|---|---|")
    results = []
    for figure, ours, peer, theirs, aim in lines:
        ratio = ours / theirs
        print(f"| {figure} | {ours:,.0f} | {peer} | {theirs:,.0f} | {ratio:.4f} | {aim} |")
        line = {"figure": figure, "ours": ours, "peer": peer, "theirs": theirs}
        results.append({**line, "ratio": ratio, "aim": aim})
    file = ROOT / "build" / "bench" / ("wide.json" if IDS == MANY else f"wide-{IDS}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"ways": found, "figures": results}, indent=1))


main()
