"""How well the model of TensorFlowOnSpark's 1.4 line learns through parameter servers.

Usage: bench.py, with ROUNDS (1), ROWS (60000) and STEPS (6000) in the environment. Runs
examples/servers on Fashion-MNIST: in step, with one server and two workers, and with two servers
and three workers; the same number of updates by 100 rows each. Prints how stale the weights were
that batches were computed with, and figure, ours, peer, ratio, aim: accuracies on the test images,
medians of the rounds. Writes them to build/bench/async.json.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ROUNDS = int(os.environ.get("ROUNDS", "1"))
ROWS = os.environ.get("ROWS", "60000")
STEPS = os.environ.get("STEPS", "6000")
LINE = re.compile(r"^(?:updates by staleness: (?P<stale>.*)|(?P<way>.*): accuracy (?P<right>.*))$")
FIT_SECONDS = 3600


def run() -> dict[str, tuple[float, str]]:
    """Of each way to train its accuracy, and how stale weights were."""
    done = subprocess.run(
        [ROOT / "examples" / "servers" / "run.sh"],
        env={**os.environ, "ROWS": ROWS, "STEPS": STEPS},
        capture_output=True,
        text=True,
        timeout=FIT_SECONDS,
        check=False,
    )
    if done.returncode:
        sys.exit(f"examples/servers failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found, stale = {}, ""
    for line in filter(None, map(LINE.match, done.stdout.splitlines())):
        if line["stale"]:
            stale = line["stale"]
        else:
            found[line["way"]] = (float(line["right"]), stale)
            stale = ""
    return found


def main() -> None:
    """Measure, print, write."""
    accuracies, staleness = defaultdict(list), {}
    for turn in range(ROUNDS):
        for way, (accuracy, stale) in run().items():
            print(f"round {turn + 1}, {way}: accuracy {accuracy:.4f}", flush=True)
            if stale:
                print(f"  updates by staleness: {stale}", flush=True)
            accuracies[way].append(accuracy)
            staleness[way] = stale
    medians = {way: statistics.median(values) for way, values in accuracies.items()}
    (peer, theirs), *apart = medians.items()
    aim = f"at least {theirs - 0.01:.4f}"
    print("\n| figure | ours | peer | | ratio | aim |\n|---|---|---|---|---|---|")
    results = []
    for way, ours in apart:
        figure = f"accuracy, {way}"
        ratio = ours / theirs
        print(f"| {figure} | {ours:.4f} | {peer} | {theirs:.4f} | {ratio:.3f} | {aim} |")
        line = {"figure": figure, "ours": ours, "peer": peer, "theirs": theirs}
        results.append({**line, "ratio": ratio, "aim": aim, "staleness": staleness[way]})
    file = ROOT / "build" / "bench" / "async.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1))


main()
