#!/usr/bin/env bash
# Six models beside Keras on TensorFlow, PyTorch and onnxruntime: see bench.py, which this runs.
# Installs the peers into build/bench-venv.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
"$bench/../peers.sh"
cargo build --quiet --locked --release --package flambeau-keras --example throughput
exec "$root/build/venv/bin/python" "$bench/bench.py"
