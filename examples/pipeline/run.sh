#!/usr/bin/env bash
# A transformer trained as a whole, and in two stages that are in an executor each.
# Environment: MASTER (default: a local cluster of two executors), DATA (a directory of MNIST's four IDX
# files; default: the Fashion-MNIST that scripts/setup.sh fetched), ROWS (12000).
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$example/../.." && pwd)
data=${DATA:-$root/build/data/fashion-mnist}
out=$root/build/pipeline
rm -rf "$out"
"$root/examples/submit.sh" "$example/train.py" "$data/train-images-idx3-ubyte.gz" \
  "$data/train-labels-idx1-ubyte.gz" "$out/models" "${ROWS:-12000}"
