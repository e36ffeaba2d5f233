#!/usr/bin/env bash
# What each way to train costs, and a model that is too large for one process: see bench.py and large.py,
# which this runs. `run.sh large` runs only the latter.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
cargo build --quiet --locked --release --workspace --example strategy_bench
exec "$root/build/venv/bin/python" "$bench/${1:-bench}.py"
