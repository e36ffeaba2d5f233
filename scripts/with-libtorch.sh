#!/usr/bin/env bash
# Runs a program with a libtorch where the loader finds it: the staged one, or that in the folder
# FLAMBEAU_LIBTORCH. Cargo runs tests and examples through it (see .cargo/config.toml); a JVM needs
# none of this, NativeLoader preloads libtorch.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
libtorch=${FLAMBEAU_LIBTORCH:-$root/build/libtorch/lib}
LD_LIBRARY_PATH=$libtorch${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$@"
