#!/usr/bin/env bash
# How well a model learns through parameter servers: see bench.py, which this runs.
set -euo pipefail
bench=$(cd "$(dirname "$0")" && pwd)
exec "$bench/../../../build/venv/bin/python" "$bench/bench.py"
