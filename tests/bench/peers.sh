#!/usr/bin/env bash
# Installs what only benchmarks run, peers with all they need, into build/bench-venv.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../.." && pwd)
venv=$root/build/bench-venv
want=$(sha256sum <"$bench/requirements.txt")
if [[ ! -e $venv/ready || $(<"$venv/ready") != "$want" ]]; then
  "$("$root/scripts/find-python.sh")" -m venv "$venv"
  "$venv/bin/pip" install --quiet -r "$bench/requirements.txt"
  printf '%s\n' "$want" >"$venv/ready"
fi
