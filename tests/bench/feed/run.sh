#!/usr/bin/env bash
# What it costs to bring rows to a model, beside peers, on one core: see bench.py, which this runs.
# ROUNDS (3) and RECORDS (300000) may be set. Installs the peers into build/bench-venv.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
"$bench/../peers.sh"
export PYSPARK_PYTHON=$root/build/bench-venv/bin/python
exec "$root/build/venv/bin/python" "$bench/bench.py"
