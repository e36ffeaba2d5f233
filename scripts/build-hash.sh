#!/usr/bin/env bash
# Prints the build id: a hash of what the native library is made from. The library and the jar
# both carry it, so that a jar never runs with a library of another build.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
find Cargo.toml Cargo.lock .cargo native -type f \( -name '*.rs' -o -name '*.cpp' -o -name '*.h' -o -name '*.toml' -o -name '*.lock' \) -print0 |
  sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16
