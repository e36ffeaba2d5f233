"""ResNet50 and the CNN of the main job, trained on one GPU beside plain PyTorch, round by round.

Usage: bench.py, with ROUNDS (3) in the environment and FLAMBEAU_LIBTORCH the folder of a libtorch
for CUDA. A step is gathering a batch on the host, copying it, forward, loss, gradients and Adam;
PyTorch has the same rows, pinned, and autocast where the policy is mixed. Prints figure, ours,
peer, ratio, aim, and writes them to build/bench/gpu.json.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pinned import output  # noqa: E402

ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "bench" / "gpu"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
OURS = str(ROOT / "target" / "release" / "examples" / "throughput")
KERAS, TORCH = (str(ROOT / "build" / venv / "bin/python") for venv in ("venv", "bench-venv"))
# A GPU takes batches of many rows: of each model, how many times as many as one core.
SCALES = {"mnist_cnn": 8, "resnet50": 8}
POLICIES = ["float32", "mixed_bfloat16", "mixed_float16"]
AIM = 0.95


def run(command: list[str]) -> str:
    """Run a command of the benchmark of one core, on the GPU."""
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "FLAMBEAU_DEVICE": "cuda",
        "LD_LIBRARY_PATH": os.environ["FLAMBEAU_LIBTORCH"],
    }
    return output(command, HERE.parent / "keras", environment, pinned=False)


def rate(command: list[str]) -> float:
    """Rows per second of one run."""
    return json.loads(run(command).strip().splitlines()[-1])["rate"]


def main() -> None:
    """Measure, print, write."""
    entries = []
    print("| figure | ours | PyTorch | ratio | aim |\n|---|---|---|---|---|")
    for policy in POLICIES:
        prepare = [KERAS, "prepare.py", str(FOLDER / policy), policy]
        run([*prepare, *(f"{name}={scale}" for name, scale in SCALES.items())])
        for name in SCALES:
            folder = str(FOLDER / policy / name)
            rates = [
                (rate([OURS, folder, "fit"]), rate([TORCH, "peer_torch.py", folder, "fit"]))
                for _ in range(ROUNDS)
            ]
            ours, theirs = (statistics.median(each) for each in zip(*rates, strict=True))
            figure = f"{name} {policy}, rows/s"
            ratio = ours / theirs
            print(f"| {figure} | {ours:,.0f} | {theirs:,.0f} | {ratio:.2f} | {AIM} |", flush=True)
            entries.append(
                {"figure": figure, "ours": ours, "peer": theirs, "ratio": ratio, "aim": AIM}
            )
    (FOLDER.parent / "gpu.json").write_text(json.dumps(entries, indent=1))


main()
