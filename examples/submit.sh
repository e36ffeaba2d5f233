#!/usr/bin/env bash
# Runs a PySpark program with this checkout's Flambeau. Usage: submit.sh PROGRAM ARGUMENTS...
# Environment: MASTER (default: a local cluster of two executors).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# local-cluster starts its workers from pip's Spark, which wants to be told its Scala version.
export SPARK_SCALA_VERSION=2.13
# spark-submit finds the Spark of the Python it is told of.
export PYSPARK_PYTHON=$root/build/venv/bin/python
export PYTHONPATH=$root/python${PYTHONPATH:+:$PYTHONPATH}
export TF_CPP_MIN_LOG_LEVEL=3

"$root/build/venv/bin/spark-submit" --master "${MASTER:-local-cluster[2,1,2048]}" \
  --conf spark.executor.heartbeatInterval=1s \
  --conf spark.ui.showConsoleProgress=false \
  --conf spark.flambeau.libtorch="$root/build/libtorch/lib" \
  --conf spark.driver.extraJavaOptions="-Dlog4j2.configurationFile=$root/examples/log4j2.properties" \
  --jars "$root/jvm/target/flambeau-spark4.0_2.13-0.1.0.jar" "$@"
