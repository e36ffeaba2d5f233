#!/usr/bin/env bash
# The data of TensorFlowOnSpark's MNIST examples, of its 2.x and its 1.4 line, as CSV and as TFRecord,
# written by TensorFlow -> models, trained on rows that Spark feeds and on files that workers read.
# Environment: MASTER (default: a local cluster of two executors), DATA (a directory of MNIST's four IDX
# files; default: the Fashion-MNIST that scripts/setup.sh fetched), ROWS (6000).
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$example/../.." && pwd)
out=$root/build/tfos
rm -rf "$out"
"$root/build/venv/bin/python" "$example/write.py" "${DATA:-$root/build/data/fashion-mnist}" "$out/data" \
  "${ROWS:-6000}"
"$root/examples/submit.sh" "$example/train.py" "$out/data" "$out/models"
