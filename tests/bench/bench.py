"""Runs every figure beside its peer, round by round, and prints medians and their ratios."""

import json
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from fashion import BATCH

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
ROWS = int(os.environ.get("ROWS", "20000"))
TABLE = ROOT / "build" / "bench" / f"fashion-{ROWS}.parquet"
EPOCHS = 3
JAR = next((ROOT / "jvm" / "target").glob("flambeau-spark*-[0-9].[0-9].[0-9].jar"))
CORE = ["taskset", "-c", "0"]

Figures = dict[str, float]


def main() -> None:
    """Measures and prints; writes `build/bench/results.json`."""
    if not TABLE.exists():
        output(["python3", "table.py", str(TABLE), str(ROWS)])
    measured: dict[str, list[float]] = defaultdict(list)
    sections: list[Callable[[], Figures]] = [keras, torch, one_worker, executors, spark_session]
    for turn in range(ROUNDS):
        for section in sections:
            figures = section()
            print(f"round {turn + 1} {section.__name__}: {figures}", flush=True)
            for name, value in figures.items():
                measured[name].append(value)
    report({name: statistics.median(values) for name, values in measured.items()})


def output(command: list[str], venv: str = "bench-venv") -> str:
    """Runs a command of this folder to its end; what it printed."""
    path = f"{ROOT}/build/{venv}/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def peer(script: str, venv: str) -> Figures:
    """Rows per second of a peer pinned to one core, by `script train` and `script predict`."""
    last = output([*CORE, "python3", script, str(ROWS)], venv).strip().splitlines()[-1]
    name = script.removeprefix("peer_").removesuffix(".py")
    return {f"{name} {figure}": value for figure, value in json.loads(last).items()}


def keras() -> Figures:
    """Plain Keras on TensorFlow."""
    return peer("peer_keras.py", "venv")


def torch() -> Figures:
    """Plain PyTorch."""
    return peer("peer_torch.py", "bench-venv")


def train(master: str, workers: int, pin: list[str]) -> tuple[float, float]:
    """Rows per second of the last epoch, and seconds from task start to the first step."""
    # fmt: off
    said = output([
        *pin, "spark-submit", "--master", master, "--class", "io.flambeau.cli.Main",
        "--conf", f"spark.flambeau.libtorch={ROOT}/build/libtorch/lib",
        "--conf", "spark.executor.heartbeatInterval=1s", "--conf", "spark.ui.enabled=false",
        str(JAR), "train", "--model", str(ROOT / "examples" / "mnist" / "cnn.json"),
        "--data", str(TABLE), "--format", "parquet", "--features", "image", "--label", "label",
        "--optimizer", "adam", "--loss", "sparse_categorical_crossentropy",
        "--metrics", "accuracy", "--batch-size", str(BATCH), "--epochs", str(EPOCHS),
        "--workers", str(workers), "--model-dir", str(TABLE.parent / "model"),
    ])
    # fmt: on
    epochs = [float(seconds) for seconds in re.findall(r"epoch \d+/\d+ done in ([\d.]+) s", said)]
    first = re.search(r"first step ([\d.]+) s after", said)
    if len(epochs) != EPOCHS or first is None:
        sys.exit(f"train on {master} reported no epochs or first step:\n{said}")
    return ROWS / min(epochs[1:]), float(first.group(1))


def one_worker() -> Figures:
    """Ours in `local[1]`, pinned to the peers' core."""
    rate, first = train("local[1]", 1, CORE)
    return {"flambeau train": rate, "first step": first}


def executors() -> Figures:
    """One executor and two, each with one core, on all cores of the machine."""
    one, _ = train("local-cluster[1,1,2048]", 1, [])
    two, first = train("local-cluster[2,1,2048]", 2, [])
    return {"one executor": one, "two executors": two, "first step, two executors": first}


def spark_session() -> Figures:
    """Feeding and predicting inside one pinned session, beside Spark's own ways."""
    said = output([*CORE, "python3", "in_session.py", str(TABLE), str(TABLE.parent / "model")])
    return json.loads(said.strip().splitlines()[-1])


def report(median: Figures) -> None:
    """A table of figures, peers and ratios."""
    rows = [
        ("training, one core, rows/s", "flambeau train", "keras train"),
        ("", "flambeau train", "torch train"),
        ("training, two executors, rows/s", "two executors", "one executor"),
        ("feed only, rows/s", "feed", "mapInArrow"),
        ("prediction, one core, rows/s", "flambeau predict", "keras predict"),
        ("", "flambeau predict", "mapInPandas"),
    ]
    print(f"\nMedians of {ROUNDS} rounds, {ROWS} rows, batch {BATCH}")
    print("| figure | Flambeau | peer | | ratio |\n|---|---|---|---|---|")
    for title, ours, other in rows:
        ratio = median[ours] / median[other]
        print(f"| {title} | {median[ours]:,.0f} | {other} | {median[other]:,.0f} | {ratio:.2f} |")
    print(f"| feed only, MB/s | {median['feed MB']:,.0f} | | | |")
    for name in ("first step", "first step, two executors"):
        print(f"| {name}, s after task start | {median[name]:.1f} | | | |")
    (TABLE.parent / "results.json").write_text(json.dumps(median, indent=1))


main()
