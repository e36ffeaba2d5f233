#!/usr/bin/env bash
# Every figure beside its peer, interleaved in one run. ROUNDS (3) and ROWS (20000) may be set.
# Installs PyTorch with all it needs, as a peer, into build/bench-venv.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../.." && pwd)
"$bench/peers.sh"
# local-cluster starts its workers from pip's Spark, which wants to be told its Scala version.
export SPARK_SCALA_VERSION=2.13 SPARK_LOCAL_IP=127.0.0.1
export PYSPARK_PYTHON=$root/build/bench-venv/bin/python
exec "$root/build/bench-venv/bin/python" "$bench/bench.py"
