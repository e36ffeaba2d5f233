#!/usr/bin/env bash
# Allreduce between processes of this host beside gloo and Open MPI: see bench.py, which this runs.
# Installs the peers into build/bench-venv.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
"$bench/../peers.sh"
"$root/build/bench-venv/bin/pip" install --quiet -r "$bench/requirements.txt" ||
  echo "Open MPI cannot be installed here: its columns stay empty"
cargo build --quiet --locked --release --package flambeau-collective --example allreduce_bench
exec "$root/build/bench-venv/bin/python" "$bench/bench.py"
