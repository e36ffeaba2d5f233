#!/usr/bin/env bash
# Lays out a CPU-only libtorch from the torch wheel: what LIBTORCH points to when building, and
# what tests and the examples load. Links, not copies: the wheel stays the only copy on disk.
# Usage: stage-libtorch.sh SITE_PACKAGES TARGET_DIR
set -euo pipefail
site=$(cd "$1" && pwd)
target=$2
rm -rf "$target"
mkdir -p "$target/lib"
ln -s "$site/torch/include" "$target/include"
for lib in libc10.so libtorch_cpu.so libgomp.so.1; do
  ln -s "$site/torch/lib/$lib" "$target/lib/$lib"
done
for lib in libcudart.so.13 libcupti.so.13; do
  ln -s "$site/nvidia/cu13/lib/$lib" "$target/lib/$lib"
done
# torch-sys asks the linker for -ltorch too; the wheel's libtorch.so would drag in CUDA, and
# everything a CPU build needs of it is in libtorch_cpu.
ln -s "$site/torch/lib/libtorch_cpu.so" "$target/lib/libtorch.so"
