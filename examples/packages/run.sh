#!/usr/bin/env bash
# Descriptions of Debian's packages -> a classifier of their sections, trained on two executors.
# Environment: MASTER (default: a local cluster of two executors), DATA (a CSV file with the columns
# section and description; default: what apt knows).
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$example/../.." && pwd)
out=$root/build/packages
if [[ -z ${DATA:-} ]]; then
  "$root/build/venv/bin/python" "$example/fetch.py" "$out/packages.csv"
fi
rm -rf "$out/model"
"$root/examples/submit.sh" "$example/train.py" "${DATA:-$out/packages.csv}" "$out/model"
