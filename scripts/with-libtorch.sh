#!/usr/bin/env bash
# Runs a program with the staged libtorch where the loader finds it. Cargo runs tests and examples
# through it (see .cargo/config.toml); a JVM needs none of this, NativeLoader preloads libtorch.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
LD_LIBRARY_PATH=$root/build/libtorch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$@"
