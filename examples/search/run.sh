#!/usr/bin/env bash
# Hyper-parameters of a network for MNIST, found by Spark's cross validation with several fits at once.
# Environment: MASTER (default: a local cluster of two executors of two cores), DATA (a directory of
# MNIST's four IDX files; default: the Fashion-MNIST that scripts/setup.sh fetched), ROWS (6000),
# PARALLELISM (4).
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$example/../.." && pwd)
out=$root/build/search
rm -rf "$out"
MASTER=${MASTER:-local-cluster[2,2,1536]} "$root/examples/submit.sh" "$example/train.py" \
  "${DATA:-$root/build/data/fashion-mnist}" "$out/model" "${ROWS:-6000}" "${PARALLELISM:-4}"
