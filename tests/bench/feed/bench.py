"""What it costs to bring rows to a model, round by round, each figure beside its peers.

Usage: bench.py, with ROUNDS (3) and RECORDS (300000) in the environment. Every run is a process of
its own, pinned to one core. Prints figure, ours, peer, ratio, aim, and writes them to
build/bench/feed.json.

Spark's other readers of TFRecord are no peers here, for there is none to run: Maven Central has
org.tensorflow:spark-tensorflow-connector for Scala 2.11 only (1.14.0, 1.15.0), while Spark 4 is of
Scala 2.13, and nothing of com.linkedin.sparktfrecord:spark-tfrecord for Scala 2.12 or 2.13 (neither
metadata nor the releases 0.6.1 and 0.7.0) when asked in November 2026.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pinned import output  # noqa: E402

ROOT = HERE.parents[2]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
RECORDS = int(os.environ.get("RECORDS", "300000"))
FOLDER = ROOT / "build" / "bench" / f"tfrecord-{RECORDS}"
TENSORFLOW, SPARK = (str(ROOT / "build" / venv / "bin/python") for venv in ("venv", "bench-venv"))

# Figure, ours, peer, aim.
ROWS = [
    ("feed, binary of 784", "feed binary", "mapInArrow binary", 3.0),
    ("", "feed binary", "iterate binary", 0.5),
    ("feed, array of 784 floats", "feed floats", "mapInArrow floats", 3.0),
    ("", "feed floats", "iterate floats", 0.5),
    ("feed, 784 int columns", "feed columns", "mapInArrow columns", 3.0),
    ("", "feed columns", "iterate columns", 0.5),
    ("feed, CSV of 785 ints", "feed csv", "read csv", 1.0),
    ("TFRecord, 784 integers", "read ints", "tf.data ints", 5.0),
    ("TFRecord, 784 floats", "read floats", "tf.data floats", 5.0),
    ("TFRecord, 784 bytes", "read bytes", "tf.data bytes", 5.0),
    ("training, rows that Spark feeds", "train fed", "train in memory", 0.97),
    ("training, TFRecords read anew", "train direct", "train in memory", 0.95),
]


def figures(command: list[str], pinned: bool = True) -> dict[str, float]:
    """What a command of this folder prints last."""
    return json.loads((output(command, HERE, pinned=pinned).strip().splitlines() or ["{}"])[-1])


def training() -> dict[str, float]:
    """Rows per second of epochs in which Spark feeds rows, that have them, and that read them."""
    printed = output([SPARK, "in_training.py", str(FOLDER)], HERE)
    ways = re.split(r"^.*way (\w+)$", printed, flags=re.MULTILINE)
    seconds = {
        way: [float(found) for found in re.findall(r"done in ([\d.]+) s", text)]
        for way, text in zip(ways[1::2], ways[2::2], strict=True)
    }
    first, *later = seconds["fed"]
    taken = {"train fed": [first], "train in memory": later, "train direct": seconds["read"]}
    return {way: RECORDS / statistics.mean(epochs) for way, epochs in taken.items()}


def main() -> None:
    """Measure, print, write."""
    if not FOLDER.exists():
        figures([TENSORFLOW, "peer_tfdata.py", "write", str(FOLDER), str(RECORDS)], pinned=False)
    measured = defaultdict(list)
    for turn in range(ROUNDS):
        peer = figures([TENSORFLOW, "peer_tfdata.py", "read", str(FOLDER)])
        found = {f"tf.data {kind}": rate for kind, rate in peer.items()}
        found.update(figures([SPARK, "in_session.py", str(FOLDER)]))
        found.update(training())
        print(f"round {turn + 1}: " + ", ".join(f"{k} {v:,.0f}" for k, v in found.items()))
        for name, rate in found.items():
            measured[name].append(rate)
    median = {name: statistics.median(rates) for name, rates in measured.items()}
    print(f"\nRows per second on one core, medians of {ROUNDS} rounds")
    print("| figure | ours | peer | | ratio | aim |\n|---|---|---|---|---|---|")
    results = []
    for figure, ours, peer, aim in ROWS:
        mine, theirs = median[ours], median[peer]
        ratio = mine / theirs
        print(f"| {figure} | {mine:,.0f} | {peer} | {theirs:,.0f} | {ratio:.2f} | {aim} |")
        line = {"figure": ours, "ours": mine, "peer": peer, "theirs": theirs}
        results.append({**line, "ratio": ratio, "aim": aim})
    (FOLDER.parent / "feed.json").write_text(json.dumps(results, indent=1))


main()
