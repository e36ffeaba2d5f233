"""Writes docs/layers.md: every layer and operation, the options covered, the largest error seen.

It reads the registry and what the parity tests left in target/parity; a class without a test there
is an error. `make parity` runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict

from oracle import ERRORS, ROOT

TABLE = ROOT / "docs" / "layers.md"

# Every layer has these; they say nothing about one.
SHARED = {"name", "trainable", "dtype", "build_config"}

HEADER = """# Layers and operations

What a model may be made of. Each is compared with TensorFlow {version} through Keras {keras} by the
tests in `tests/layers`: outputs in inference and training, masks, gradients of inputs and weights.
The error is the largest difference in any of them over all cases with that class, relative to the
largest magnitude of the tensor. Options are those that were given more than one value. An option
or a class that is not here is refused by name. `make parity` writes this page.
"""


def registry() -> dict[str, list[str]]:
    """The classes of each family."""
    command = ["cargo", "run", "--release", "--quiet", "-p", "flambeau-keras"]
    command += ["--example", "registry"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Write the page."""
    import keras
    import tensorflow as tf

    errors: dict[tuple[str, str], float] = defaultdict(float)
    values: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    cases: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in sorted(ERRORS.glob("*.json")):
        for entry in json.loads(file.read_text()):
            for family, name, config in entry["objects"]:
                key = (family, name)
                errors[key] = max(errors[key], entry["error"])
                cases[key].add(f"{file.stem}:{entry['case']}")
                for option, value in config.items():
                    values[key][option].add(json.dumps(value, sort_keys=True))
    lines = [HEADER.format(version=tf.__version__, keras=keras.__version__)]
    untested = []
    for family, title in [("layers", "Layers"), ("ops", "Operations (`keras.ops`)")]:
        lines += [f"## {title}", "", "| class | options covered | cases | largest error |"]
        lines += ["|---|---|---|---|"]
        for name in sorted(registry()[family]):
            key = (family, name)
            if not cases[key]:
                untested.append(name)
                continue
            varied = [o for o, seen in values[key].items() if len(seen) > 1 and o not in SHARED]
            options = ", ".join(varied)
            lines.append(f"| {name} | {options} | {len(cases[key])} | {errors[key]:.1e} |")
        lines.append("")
    TABLE.write_text("\n".join(lines))
    if untested:
        sys.exit(f"no test covers: {', '.join(untested)}")


main()
