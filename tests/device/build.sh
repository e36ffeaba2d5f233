#!/usr/bin/env bash
# Lays out a libtorch whose part for GPUs is the stand-in of cuda.cpp: build.sh TARGET_DIR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
libtorch=$(cd "$here/../../build/libtorch" && pwd)
mkdir -p "$1/lib"
target=$(cd "$1" && pwd)
for lib in "$libtorch"/lib/*; do
  [[ $lib == */libtorch.so ]] && continue
  # No symbolic links: a JVM follows them, and would load what lies beside the original.
  file=$target/lib/$(basename "$lib")
  [[ -e $file ]] || ln "$(readlink -f "$lib")" "$file" 2>/dev/null || cp -L "$lib" "$file"
done
stand_in=$target/lib/libtorch_cuda.so
if [[ ! -e $stand_in || $here/cuda.cpp -nt $stand_in ]]; then
  "${CXX:-c++}" -std=c++17 -O1 -fPIC -shared -w -isystem "$libtorch/include" "$here/cuda.cpp" \
    -o "$stand_in.new" -L"$libtorch/lib" -ltorch_cpu -lc10
  mv "$stand_in.new" "$stand_in"
fi
