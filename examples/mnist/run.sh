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
master=${MASTER:-local-cluster[2,1,2048]}
# local-cluster starts its workers from pip's Spark, which wants to be told its Scala version.
export SPARK_SCALA_VERSION=2.13
# spark-submit finds the Spark of the Python it is told of.
export PYSPARK_PYTHON=$root/build/venv/bin/python

submit() {
  echo "== flambeau $*"
  "$root/build/venv/bin/spark-submit" --master "$master" --name "flambeau mnist $1" \
    --class io.flambeau.cli.Main \
    --conf spark.executor.heartbeatInterval=1s \
    --conf spark.ui.showConsoleProgress=false \
    --conf spark.flambeau.libtorch="$root/build/libtorch/lib" \
    --conf spark.driver.extraJavaOptions="-Dlog4j2.configurationFile=$root/examples/log4j2.properties" \
    "$root/jvm/target/flambeau-spark4.0_2.13-0.1.0.jar" "$@"
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
