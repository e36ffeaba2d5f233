#!/usr/bin/env bash
# What a wide embedding takes of wire and memory: see bench.py, which this runs.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
cargo build --quiet --locked --release --workspace --example wide_bench
exec "$root/build/venv/bin/python" "$bench/bench.py"
