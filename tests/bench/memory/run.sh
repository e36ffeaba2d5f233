#!/usr/bin/env bash
# What an executor takes for rows beyond its budget: see bench.py, which this runs. BUDGET_MIB (192) may
# be set.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$bench/../../.." && pwd)
export SPARK_SCALA_VERSION=2.13 TF_CPP_MIN_LOG_LEVEL=3
export PYSPARK_PYTHON=$root/build/venv/bin/python
exec "$root/build/venv/bin/python" "$bench/bench.py"
