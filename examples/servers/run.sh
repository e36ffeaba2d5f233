#!/usr/bin/env bash
# The MNIST model of TensorFlowOnSpark's 1.4 line, trained as there: asynchronously, through parameter
# servers; and in step, for comparison.
# Environment: MASTER (default: a local cluster of five executors), DATA (a directory of MNIST's four IDX
# files; default: the Fashion-MNIST that scripts/setup.sh fetched), ROWS (6000), STEPS (600).
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$example/../.." && pwd)
out=$root/build/servers
rm -rf "$out"
"$root/build/venv/bin/python" "$root/examples/tfos/write.py" \
  "${DATA:-$root/build/data/fashion-mnist}" "$out/data" "${ROWS:-6000}"
MASTER=${MASTER:-local-cluster[5,1,1536]} "$root/examples/submit.sh" "$example/train.py" \
  "$out/data" "$out/models" "${STEPS:-600}"
