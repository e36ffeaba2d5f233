"""Where the time of training steps goes when two ranks train together.

Usage: bench.py, with ROUNDS (3) in the environment. Every rank is a process on a core of its own.
For a model of 25.6 million parameters (ResNet50), the share of a step that is neither forward nor
backward pass: waiting for the other rank, adding up gradients, the optimizer's rule; through shared
memory, and over TCP with gradients that leave in buckets during the backward pass and with all of
them after it. For the MNIST CNN, what two ranks train together in the time in which one trains, and
beside what two train that have nothing to do with each other: the limit that the cores set.
Prints figure, ours, peer, ratio, aim, medians of the rounds, and writes them to
build/bench/steps.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import keras
import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "build" / "bench" / "steps"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
PROGRAM = ROOT / "target" / "release" / "examples" / "step_bench"
PARTS = ("forward", "agreement", "backward", "exchange", "update")


def prepare(name: str, model: keras.Model, rows: int) -> None:
    """Write a model with made-up rows, as the program wants them."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    random = np.random.default_rng(1)
    x = random.random((rows, *model.input_shape[1:]), dtype=np.float32)
    y = random.integers(0, model.output_shape[-1], (rows, 1)).astype(np.int32)
    save_file({"x": x, "y": y}, folder / "data.safetensors")
    settings = {"loss": "sparse_categorical_crossentropy"}
    (folder / "settings.json").write_text(json.dumps(settings))


def steps(name: str, ranks: int, count: int, rows: int, way: str) -> dict[str, float]:
    """Seconds of a step and of its parts, on rank 0."""
    arguments = [str(FOLDER / name), str(ranks), str(count), str(rows), way]
    done = subprocess.run(
        [ROOT / "scripts" / "with-libtorch.sh", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def outside(step: dict[str, float]) -> float:
    """The share of a step that is neither forward nor backward pass."""
    return 1 - (step["forward"] + step["backward"]) / step["step"]


def main() -> None:
    """Measure, print, write."""
    cnn = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    prepare("mnist_cnn", cnn, 64)
    prepare("resnet50", keras.applications.ResNet50(weights=None), 16)
    measured = defaultdict(list)
    for turn in range(ROUNDS):
        found = {
            "resnet50, memory": steps("resnet50", 2, 4, 16, "memory"),
            "resnet50, buckets": steps("resnet50", 2, 4, 16, "buckets"),
            "resnet50, whole": steps("resnet50", 2, 4, 16, "whole"),
            "mnist_cnn, one": steps("mnist_cnn", 1, 400, 64, "memory"),
            "mnist_cnn, two": steps("mnist_cnn", 2, 400, 64, "memory"),
            "mnist_cnn, apart": steps("mnist_cnn", 2, 400, 64, "alone"),
        }
        for name, step in found.items():
            parts = ", ".join(f"{part} {step[part] * 1e3:.2f}" for part in PARTS)
            print(f"round {turn + 1}, {name}: {step['step'] * 1e3:.1f} ms: {parts}")
            measured[name].append(step)

    def share(name: str) -> float:
        return statistics.median(outside(step) for step in measured[name])

    def rate(name: str, ranks: int) -> float:
        return statistics.median(64 * ranks / step["step"] for step in measured[name])

    lines = [
        ("share outside the passes, ResNet50, memory", share("resnet50, memory"), "TCP, whole",
         share("resnet50, whole"), "at most 0.05"),
        ("share outside the passes, ResNet50, TCP", share("resnet50, buckets"), "TCP, whole",
         share("resnet50, whole"), "at most 0.05"),
        ("rows/s, MNIST CNN, two ranks", rate("mnist_cnn, two", 2), "one rank",
         rate("mnist_cnn, one", 1), "1.9"),
        ("", rate("mnist_cnn, two", 2), "two apart", rate("mnist_cnn, apart", 2), "0.95"),
    ]  # fmt: skip
    print("\n| figure | ours | peer | | ratio | aim |\n|---|---|---|---|---|---|")
    results = []
    for figure, ours, peer, theirs, aim in lines:
        digits = 3 if ours < 1 else 0
        print(
            f"| {figure} | {ours:,.{digits}f} | {peer} | {theirs:,.{digits}f} | "
            f"{ours / theirs:.2f} | {aim} |"
        )
        line = {"figure": figure, "ours": ours, "peer": peer, "theirs": theirs}
        results.append({**line, "ratio": ours / theirs, "aim": aim})
    (FOLDER.parent / "steps.json").write_text(json.dumps(results, indent=1))


main()
