#!/usr/bin/env bash
# The whole story with spark-submit: IDX files -> CSV -> training -> predictions, then stock Keras
# as the judge of the exported model.
# Environment: MASTER (default: a local cluster of two executors), DATA (a directory or URI of the
# four IDX files; default: the Fashion-MNIST that scripts/setup.sh fetched).
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$example/../.." && pwd)
out=$root/build/mnist
data=${DATA:-$root/build/data/fashion-mnist}

submit() {
  echo "== flambeau $*"
  "$root/examples/submit.sh" "$@"
}

rm -rf "$out"
submit prepare --data "$data" --output "$out"
submit train --model "$example/cnn.json" --data "$out/csv/train" --validation "$out/csv/test" \
  --label label --epochs 3 --batch-size 64 --optimizer adam \
  --loss sparse_categorical_crossentropy --metrics accuracy --workers 2 --seed 1 \
  --model-dir "$out/model"
submit predict --model-dir "$out/model" --data "$out/csv/test" --label label \
  --output "$out/predictions"
"$root/build/venv/bin/python" "$example/check_with_keras.py" "$out"
