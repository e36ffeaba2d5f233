"""A model that is too large for one process trains in several, each of which has a limit.

Usage: large.py, with LARGE_WIDTH (4096) in the environment: six layers of so many units, trained
with Adam. `RLIMIT_DATA` bounds what a process may allocate. Alone it fails with an error
that says what to do; in stages, and with the weights of each layer split, it trains to a checkpoint
and an export. Stock Keras opens this and the export of a process without a limit, and both predict
the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ranks import Fit, Outcome, Rows, run

USUAL_WIDTH = 4096
WIDTH = int(os.environ.get("LARGE_WIDTH", USUAL_WIDTH))
LAYERS, INPUTS, CLASSES = 6, 64, 10
BATCH, STEPS = 32, 4
MIB = 1 << 20
WEIGHTS = 4 * (INPUTS * WIDTH + (LAYERS - 1) * WIDTH * WIDTH + LAYERS * WIDTH)
# Weights, gradients and Adam's two moments are four times the weights, and a pass gives gradients
# of its own before they are added up.
LIMIT = 7 * WEIGHTS // 2 + 200 * MIB
# How far predictions may lie apart.
TOLERANCE = 1e-5


def model() -> dict[str, Any]:
    """The model in Keras's JSON."""
    image = {"name": "numbers", "batch_shape": [None, INPUTS]}
    layers = [
        {"class_name": "InputLayer", "config": image},
        {"class_name": "Rescaling", "config": {"name": "scale", "scale": 1 / 255, "offset": 0.0}},
    ]
    for number in range(LAYERS + 1):
        is_last = number == LAYERS
        config = {
            "name": "classes" if is_last else f"layer_{number}",
            "units": CLASSES if is_last else WIDTH,
            "activation": "softmax" if is_last else "relu",
        }
        layers.append({"class_name": "Dense", "config": config})
    return {"class_name": "Sequential", "config": {"name": "large", "layers": layers}}


def fits(folder: Path) -> dict[str, Fit]:
    """Alone without a limit and with one, then in several processes with it."""

    def fit(name: str, limit: int | None, **mesh: Any) -> Fit:
        settings: dict[str, Any] = {
            "optimizer": "adam",
            "loss": "sparse_categorical_crossentropy",
            "batch_size": BATCH,
            "epochs": 1,
            "shuffle": False,
        }
        if mesh:
            settings["mesh"] = mesh
        ranks = mesh.get("pipeline", 1) * mesh.get("tensor", 1)
        place = folder / name.replace(" ", "-")
        return Fit(name, settings, of_replica=ranks, folder=place, limit=limit)

    # Cut by name: by the time that layers take it would be cut otherwise in each run.
    parts = {"micro_batches": 2, "schedule": "1f1b"}
    all_fits = [
        fit("without a limit", None),
        fit("alone", LIMIT),
        fit("2 stages", LIMIT, pipeline=2, **parts, stages={"layer_3": 1}),
        fit(
            "4 stages",
            LIMIT,
            pipeline=4,
            **parts,
            stages={"layer_2": 1, "layer_3": 2, "layer_5": 3},
        ),
        fit("weights split in 2", LIMIT, tensor=2),
    ]
    return {fit.name: fit for fit in all_fits}


def predicted(export: Path, numbers: np.ndarray) -> np.ndarray:
    """What stock Keras predicts with an export."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    loaded = keras.saving.load_model(export, compile=False)
    return loaded.predict(numbers, verbose=0)


def files(folder: Path) -> tuple[Rows, np.ndarray]:
    """Made-up rows, and the numbers of some of them."""
    count = BATCH * STEPS
    numbers = np.random.default_rng(1).integers(0, 256, (count, INPUTS), np.uint8)
    values, labels = folder / "values", folder / "labels"
    values.write_bytes(numbers.tobytes())
    labels.write_bytes((numbers[:, 0] % CLASSES).tobytes())
    return Rows(values, labels, INPUTS, count), numbers[:BATCH].astype("f4")


def prove() -> list[dict[str, Any]]:
    """Train in all ways; the figures. Raises unless all is as it should be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, numbers = files(folder)
        none = Rows(rows.values, rows.labels, rows.width, 0)
        ways = fits(folder)
        outcomes = {name: run(fit, model(), rows, none, folder) for name, fit in ways.items()}
        failures = outcomes.pop("alone").failures
        assert len(failures) == 1, failures
        message = failures[0]
        assert "memory" in message and "pipelineStages" in message, message
        expected = None
        apart = {}
        for name, outcome in outcomes.items():
            assert not outcome.failures, f"{name}: {outcome.failures}"
            own = ways[name].folder
            assert own is not None
            assert list((own / "0").glob("ckpt-*.safetensors")), name
            came = predicted(own / "0" / "export" / "model.keras", numbers)
            expected = came if expected is None else expected
            # Not what anybody would predict who knows nothing.
            assert came.std() > 100 * TOLERANCE, f"{name}: {came}"
            apart[name] = float(np.abs(came - expected).max())
            assert apart[name] <= TOLERANCE, f"{name}: {apart[name]}"
    show(message, outcomes, apart)
    return figures(outcomes)


def show(message: str, outcomes: dict[str, Outcome], apart: dict[str, float]) -> None:
    """Print what came of it."""
    print(f"\nweights of {WEIGHTS / MIB:,.0f} MiB, limit {LIMIT / MIB:,.0f} MiB; alone:\n{message}")
    print("| way | MiB of memory, by rank | predictions apart |\n|---|---|---|")
    for name, outcome in outcomes.items():
        memory = ", ".join(f"{memory / MIB:,.0f}" for memory in outcome.memory)
        print(f"| {name} | {memory} | {apart[name]:.1e} |")


def figures(outcomes: dict[str, Outcome]) -> list[dict[str, Any]]:
    """The most memory of a rank beside that of a process that has no limit."""
    alone = max(outcomes["without a limit"].memory)
    lines = []
    for name, outcome in outcomes.items():
        most = max(outcome.memory)
        line = {"figure": f"most memory of a rank, large model, {name}", "ours": most}
        line |= {"peer": "one process", "theirs": alone, "ratio": most / alone, "aim": ""}
        lines.append(line)
    return lines


if __name__ == "__main__":
    prove()
