"""Writes docs/layers.md: every layer and operation, the options covered, the largest error seen.

It reads the registry and what the parity tests left in target/parity; a class without a test there
is an error. `make parity` runs it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import tensorflow as tf
from oracle import ERRORS, ROOT

TABLE = ROOT / "docs" / "layers.md"

# All of a family have these; they say nothing about one.
SHARED = {"layers": {"name", "trainable", "dtype", "build_config", "seed"}, "ops": {"name"}}
# So many values of an option are listed.
FEW = 6
REFUSED = {"Lambda": "refused: its function is Python's"}

HEADER = """# Layers and operations

What a model may be made of: {layers} layers and {ops} operations of Keras {keras}. Each is compared
with TensorFlow {version} by the tests in `tests/layers`: outputs in inference and in training,
masks, added losses, gradients of inputs and weights, weights after the step, and what stock Keras
makes of the exported model. An option or a class that is not supported is refused by an error that
names it. `make parity` runs every case and writes this page.

- **class** is the name in a model's config, with others that Keras has for it; `keras.ops.argmax`
  is `Argmax` there.
- **options compared** are those that were given more than one value, with the values where they
  are few names. An option that is not named there has been compared with one value only, mostly
  Keras's default. `seed` is left out: where a layer draws random numbers in training, only
  inference and shapes are compared, since the numbers are not TensorFlow's.
- **error to** bounds the largest difference in any case with that class, relative to the largest
  magnitude of the tensor: in float32, and where float16 or bfloat16 took part. It is the error of
  the whole case, so that of other classes in it counts too. 0 is equality, bit for bit.
"""

DIFFERENCES = """## Where the numbers differ

- `data_format="channels_first"` with as many filters as the last axis is long: Keras on TensorFlow
  adds the bias along that axis, Flambeau along the channels.
- The loss of one of several outputs, reported over an epoch whose last batch is smaller: Keras gives
  every batch the same weight, Flambeau every row. The total loss is over rows in both.
- `x**0` at `x = 0`: TensorFlow's gradient is NaN, Flambeau's 0.
- `saturate_cast` of floating-point numbers above the greatest int32, uint32 or int64: Keras casts
  what is one above it, and leaves the result to the processor; Flambeau gives the greatest.
- `conv_transpose` in a functional model: Keras cannot run it, for its operation mixes up two
  arguments; Flambeau does what the function does outside of one.
- `MelSpectrogram` in training over several workers: `top_db` looks at the loudest signal of a
  worker's rows, in Keras at that of the batch.
- `ctc_loss` of labels that do not fit into their steps: TensorFlow gives about 700, Flambeau an
  error.
"""

ARCHITECTURES = """## Architectures of `keras.applications`

Each with random weights and images of that side: prediction, one training step and the export. The
errors bound the norm of the difference, relative to the norm of what TensorFlow finds: of the
predictions, of outputs and moving statistics in training, and of the worst gradient. Weights and
images are such that rounding does not decide on which side of its kink a relu is, nor, where that
could be had, which of two values is the larger in a max-pooling.

| architecture | side | prediction | training | gradients |
|---|---|---|---|---|
"""


@dataclass
class Covered:
    """What the cases with one class had."""

    cases: set[str] = field(default_factory=set)
    errors: dict[str, float] = field(default_factory=dict)
    values: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def bounds(self) -> str:
        """The errors in float32 and in half precision, where there were such cases."""
        found = [self.errors.get(precision) for precision in ("float32", "half")]
        return " | ".join("" if error is None else bound(error) for error in found)

    def options(self, shared: set[str]) -> str:
        """The options with several values."""
        varied = {o for o, seen in self.values.items() if len(seen) > 1} - shared
        return ", ".join(f"`{option}`{listed(self.values[option])}" for option in sorted(varied))


def listed(values: set[str]) -> str:
    """Values in parentheses, if they are a few names."""
    parsed = [json.loads(value) for value in values]
    names = sorted(value for value in parsed if isinstance(value, str))
    if not 0 < len(names) <= FEW or any(not isinstance(v, str | None) for v in parsed):
        return ""
    return f" ({', '.join(names)})"


def registry() -> dict[str, list[str]]:
    """The classes of each family."""
    command = ["cargo", "run", "--release", "--quiet", "-p", "flambeau-keras"]
    command += ["--example", "registry"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def covered() -> dict[tuple[str, str], Covered]:
    """What the tests left, by family and class."""
    found: dict[tuple[str, str], Covered] = defaultdict(Covered)
    for file in sorted(ERRORS.glob("*.json")):
        for entry in json.loads(file.read_text()):
            half = "float16" in json.dumps(entry["objects"])
            precision = "half" if half else "float32"
            for family, name, config in entry["objects"]:
                row = found[family, name]
                row.cases.add(f"{file.stem}:{entry['case']}")
                row.errors[precision] = max(row.errors.get(precision, 0.0), entry["error"])
                for option, value in config.items():
                    row.values[option].add(json.dumps(value, sort_keys=True))
    return found


def bound(error: float) -> str:
    """The next of 1, 2 and 5 times a power of ten, which rarely changes with the processor."""
    if error == 0:
        return "0"
    power = 10.0 ** math.floor(math.log10(error))
    return f"{next(step * power for step in (1, 2, 5, 10) if error <= step * power):.0e}"


def exported() -> dict[str, list[str]]:
    """Other names under which Keras has each layer."""
    names = defaultdict(list)
    for name in dir(keras.layers):
        layer = getattr(keras.layers, name)
        if isinstance(layer, type) and layer.__name__ != name:
            names[layer.__name__].append(name)
    return names


def rows(family: str, classes: list[str], found: dict[tuple[str, str], Covered]) -> list[str]:
    """The table of a family."""
    others = exported() if family == "layers" else {}
    lines = []
    for name in sorted(classes):
        row = found[family, name]
        also = f" ({', '.join(others[name])})" if others.get(name) else ""
        options = REFUSED.get(name) or row.options(SHARED[family])
        counts = " |  | " if name in REFUSED else f"{len(row.cases)} | {row.bounds()}"
        lines.append(f"| {name}{also} | {options} | {counts} |")
    return lines


def architectures() -> list[str]:
    """The table of keras.applications."""
    lines = []
    for file in sorted((ERRORS / "applications").glob("*.json")):
        errors = json.loads(file.read_text())
        bounds = [bound(errors[key]) for key in ("prediction", "training", "gradients")]
        lines.append(f"| {file.stem} | {errors['side']} | {' | '.join(bounds)} |")
    return lines


def main() -> None:
    """Write the page."""
    classes, found = registry(), covered()
    untested = [
        name
        for family, names in classes.items()
        for name in names
        if not found[family, name].cases and name not in REFUSED
    ]
    if untested:
        sys.exit(f"no test covers: {', '.join(untested)}")
    counts = {family: len(set(names) - set(REFUSED)) for family, names in classes.items()}
    lines = [HEADER.format(version=tf.__version__, keras=keras.__version__, **counts)]
    for family, title in [("layers", "Layers"), ("ops", "Operations of `keras.ops`")]:
        lines += [f"## {title}", "", "| class | options compared | cases | error to | half |"]
        lines += ["|---|---|---|---|---|", *rows(family, classes[family], found), ""]
    lines += [DIFFERENCES, ARCHITECTURES.rstrip("\n"), *architectures(), ""]
    TABLE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
