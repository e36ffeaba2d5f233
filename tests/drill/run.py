"""The fault drill: `run.py [--short] [NAME ...]` tries every drill and prints what came of it.

Ranks as processes of their own first (the example `drill` of native/collective), then executors of
a Spark cluster. Figures go to build/bench/drill.json. Ends with 1 if any try did not survive.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import executor_drill

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "target/release/examples/drill"
FIGURES = ROOT / "build/bench/drill.json"


def native(arguments: list[str]) -> Iterator[dict[str, Any]]:
    """The drills of the collective alone."""
    with subprocess.Popen([str(NATIVE), *arguments], stdout=subprocess.PIPE, text=True) as drill:
        assert drill.stdout is not None
        for line in drill.stdout:
            yield json.loads(line)


def row(report: dict[str, Any]) -> str:
    """A line of the table."""
    if report["skipped"]:
        return f"{report['drill']:<42} {report['skipped']}"
    median, worst, bound = (
        report[f"{name}_s"] for name in ("detection_median", "detection_worst", "bound")
    )
    seen = f"{median:9.2f} {worst:9.2f}" if worst is not None else f"{'-':>9} {'-':>9}"
    limit = f"{bound:7.0f}" if bound is not None else f"{'-':>7}"
    survived = f"{report['tried']:>6} {report['survived']:>9}"
    return f"{report['drill']:<42} {survived} {seen} {limit} {report['seconds']:8.0f}"


def main() -> int:
    """Run the drills whose names contain a NAME, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few tries of each")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    print(f"{'drill':<42} {'tried':>6} {'survived':>9} {'median s':>9} {'worst s':>9}", end="")
    print(f" {'bound s':>7} {'took s':>8}", flush=True)
    reports = []

    def show(report: dict[str, Any]) -> None:
        reports.append(report)
        print(row(report), flush=True)
        for failure in report["failures"]:
            print(f"    {failure}", flush=True)

    for report in native([*(["--short"] if given.short else []), *given.names]):
        show(report)
    if not given.names or any(name in executor_drill.NAME for name in given.names):
        show(executor_drill.run(3 if given.short else 20))
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_text(json.dumps(reports, indent=1) + "\n")
    return 1 if any(report["failures"] for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
