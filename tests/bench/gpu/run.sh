#!/usr/bin/env bash
# Training on the machine's GPU beside plain PyTorch, on the same libtorch: see bench.py, which this
# runs. Without a GPU it says why and does nothing.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
if ! FLAMBEAU_LIBTORCH=$("$root/tests/device/gpu.sh" 2>"$root/build/gpu.log"); then
  echo "bench-gpu skipped: $(tail -n 1 "$root/build/gpu.log")"
  exit 0
fi
export FLAMBEAU_LIBTORCH
cd "$root"
cargo build --quiet --locked --release --workspace --example throughput
exec "$root/build/venv/bin/python" "$bench/bench.py"
