#!/usr/bin/env bash
# Puts Fashion-MNIST, four gzipped IDX files, into TARGET_DIR/fashion-mnist. It comes from the
# Debian package dataset-fashion-mnist, unpacked without installing it: no root needed.
# Usage: fetch-data.sh TARGET_DIR
set -euo pipefail
target=$1
package=dataset-fashion-mnist
files=(train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz
  t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz)

complete() { # complete DIR
  local file
  for file in "${files[@]}"; do
    [[ -s $1/$file ]] || return 1
  done
}

explain() {
  cat >&2 <<END
could not download the Debian package $package: $1
Put these four files of MNIST or Fashion-MNIST into a directory and name it: DATA=DIR make mnist
  ${files[*]}
END
  exit 1
}

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else sudo --non-interactive "$@"; fi
}

download() {
  apt-get download --quiet "$package" || apt-get download --quiet "$package"
}

complete "$target/fashion-mnist" && exit
command -v apt-get >/dev/null || explain "this system has no apt-get"

mkdir -p "$target"
target=$(cd "$target" && pwd)
scratch=$(mktemp -d -p "$target")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
if [[ -z $(apt-cache search --names-only "^$package\$") ]]; then
  as_root apt-get update --quiet || explain "its package lists could not be updated"
fi
download || explain "apt-get download failed twice"
dpkg-deb --extract "$package"_*.deb unpacked
found=$(find unpacked -name "${files[0]}" -print -quit)
[[ -n $found ]] || explain "it holds no ${files[0]}"
rm -rf "$target/fashion-mnist"
mv "$(dirname "$found")" "$target/fashion-mnist"
