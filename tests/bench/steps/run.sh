#!/usr/bin/env bash
# Where the time of training steps of two ranks goes: see bench.py, which this runs.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
cargo build --quiet --locked --release --package flambeau-train --example step_bench
exec "$root/build/venv/bin/python" "$bench/bench.py"
