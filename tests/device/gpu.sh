#!/usr/bin/env bash
# Prints the folder of a libtorch that computes on this machine's GPU; without one it fails with the
# reason. It is the benchmarks' torch, with all of NVIDIA's libraries: gigabytes, fetched only where
# there is a driver.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
if ! ldconfig -p | grep -q 'libcuda\.so\.1'; then
  echo "there is no NVIDIA driver (libcuda.so.1)" >&2
  exit 1
fi
"$root/tests/bench/peers.sh" >&2
libtorch=$(echo "$root"/build/bench-venv/lib/python3*/site-packages/torch/lib)
cd "$root"
cargo build --quiet --locked --release --package flambeau-libtorch --example gpus
FLAMBEAU_LIBTORCH=$libtorch scripts/with-libtorch.sh target/release/examples/gpus >/dev/null
echo "$libtorch"
