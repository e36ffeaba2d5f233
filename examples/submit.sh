#!/usr/bin/env bash
# Submits this checkout's Flambeau: a PySpark program (submit.sh PROGRAM.py ARGUMENTS...) or a
# command of its own (submit.sh train OPTIONS...).
# Environment: MASTER (default: a local cluster of two executors).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
jar=$root/jvm/target/flambeau-spark4.0_2.13-0.1.0.jar
case ${1:?"usage: submit.sh PROGRAM.py ARGUMENTS... or submit.sh COMMAND OPTIONS..."} in
  *.py) job=(--jars "$jar" "$@") ;;
  *) job=(--class io.flambeau.cli.Main "$jar" "$@") ;;
esac
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
  "${job[@]}"
