"""Training and prediction of six models beside Keras, PyTorch and onnxruntime, round by round.

Usage: bench.py, with ROUNDS (3) and MODELS (all; names by commas) in the environment. Every run is
a process of its own, pinned to one core. Prints figure, ours, peer, ratio, aim, and writes them to
build/bench/keras.json.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pinned import output as run_output  # noqa: E402

ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "bench" / "keras"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
OURS = str(ROOT / "target" / "release" / "examples" / "throughput")
KERAS, TORCH = (str(ROOT / "build" / venv / "bin/python") for venv in ("venv", "bench-venv"))
NAMES = ["mnist_cnn", "resnet50", "mobilenet_v2", "lstm", "transformer", "embedding_mlp"]
CHOSEN = os.environ.get("MODELS", ",".join(NAMES)).split(",")

RUNS = {
    ("fit", "flambeau"): lambda folder: [OURS, folder, "fit"],
    ("fit", "keras"): lambda folder: [KERAS, "peer_keras.py", folder, "fit"],
    ("fit", "torch"): lambda folder: [TORCH, "peer_torch.py", folder, "fit"],
    ("predict", "flambeau"): lambda folder: [OURS, folder, "predict"],
    ("predict", "keras"): lambda folder: [KERAS, "peer_keras.py", folder, "predict"],
    ("predict", "torch"): lambda folder: [TORCH, "peer_torch.py", folder, "predict"],
    ("predict", "onnxruntime"): lambda folder: [TORCH, "peer_onnx.py", folder],
}


def aim(name: str, mode: str, peer: str) -> float | None:
    """The ratio that is aimed at."""
    if mode == "fit":
        own = 1.5 if name == "mnist_cnn" else 1.0
        return {"keras": own, "torch": 1.2}[peer]
    return {"keras": 1.2, "onnxruntime": 0.6}.get(peer)


def output(command: list[str], pinned: bool = True) -> str:
    """Run a command of this folder to its end; what it printed."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if command[0] == OURS:
        environment["LD_LIBRARY_PATH"] = str(ROOT / "build" / "libtorch" / "lib")
    return run_output(command, HERE, environment, pinned)


def main() -> None:
    """Measure, print, write."""
    if not all((FOLDER / name / "model.onnx").exists() for name in CHOSEN):
        output([KERAS, "prepare.py", str(FOLDER)], pinned=False)
        for name in CHOSEN:
            output([TORCH, "peer_torch.py", str(FOLDER / name), "export"], pinned=False)
    measured = defaultdict(list)
    for turn in range(ROUNDS):
        for name in CHOSEN:
            for (mode, who), command in RUNS.items():
                line = output(command(str(FOLDER / name))).strip().splitlines()[-1]
                figures = json.loads(line)
                measured[name, mode, who].append(figures)
                rate, memory = figures["rate"], figures["memory"]
                said = f"round {turn + 1} {name} {mode} {who}: {rate:.1f} rows/s {memory:.0f} MB"
                print(said, flush=True)
    print(f"\nMedians of {ROUNDS} rounds, one core")
    print("| figure | ours | peer | | ratio | aim | MB, ours and peer |")
    print("|---|---|---|---|---|---|---|")
    entries = [entry(measured, *key) for key in measured if key[2] != "flambeau"]
    for each in entries:
        aimed = "" if each["aim"] is None else f"{each['aim']:.1f}"
        print(
            f"| {each['figure']} | {each['ours']:,.1f} | {each['peer']} | {each['theirs']:,.1f} "
            f"| {each['ratio']:.2f} | {aimed} | {each['memory'][0]:.0f}, {each['memory'][1]:.0f} |"
        )
    (FOLDER.parent / "keras.json").write_text(json.dumps(entries, indent=1))


def entry(measured: dict, name: str, mode: str, peer: str) -> dict:
    """One figure beside one peer."""

    def median(who: str, what: str) -> float:
        return statistics.median(figures[what] for figures in measured[name, mode, who])

    ours, theirs = median("flambeau", "rate"), median(peer, "rate")
    return {
        "figure": f"{name} {mode}, rows/s",
        "ours": ours,
        "peer": peer,
        "theirs": theirs,
        "ratio": ours / theirs,
        "aim": aim(name, mode, peer),
        "memory": [median("flambeau", "memory"), median(peer, "memory")],
    }


main()
