#!/usr/bin/env bash
# Checks a machine's GPU: layers against Keras, fits, a benchmark. Where there is none it says why, and
# runs on the stand-in of cuda.cpp what needs none.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
export FLAMBEAU_DEVICE=cuda
if libtorch=$(tests/device/gpu.sh 2>build/gpu.log); then
  export FLAMBEAU_LIBTORCH=$libtorch
else
  echo "no GPU: $(tail -n 1 build/gpu.log)"
  echo "layers and fits run on a stand-in without one"
  tests/device/build.sh build/stand-in
  export FLAMBEAU_LIBTORCH=$root/build/stand-in/lib
fi
build/venv/bin/pytest tests/layers
cargo test --locked --release --workspace --test fits
if [[ -n $libtorch ]]; then
  tests/bench/gpu/run.sh
else
  echo "skipped, for want of a GPU: bench-gpu, and whatever a GPU's own kernels, memory and copies do"
fi
