#!/usr/bin/env bash
# Brings a fresh checkout to the point where it can be built and tested: tools, Python
# environment, libtorch, data set. Every step leaves a stamp, so running it again is quick.
# Environment: DATA=DIR_OR_URI uses your own IDX files and downloads no data set.
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
build=$(dirname "$scripts")/build
mkdir -p "$build"

"$scripts/check-tools.sh"
"$scripts/setup-python.sh" "$build/venv"
if [[ ! -e $build/libtorch/lib/libtorch_cpu.so ]]; then
  "$scripts/stage-libtorch.sh" "$build/venv/lib/python3.11/site-packages" "$build/libtorch"
fi
if [[ -z ${DATA:-} ]]; then
  "$scripts/fetch-data.sh" "$build/data"
fi
