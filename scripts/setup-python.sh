#!/usr/bin/env bash
# Makes the Python environment, or brings an existing one up to date with the pinned
# requirements. The stamp is the hash of those: unchanged pins cost nothing.
# Usage: setup-python.sh VENV_DIR
set -euo pipefail
venv=$1
scripts=$(cd "$(dirname "$0")" && pwd)
pins=("$scripts/requirements.txt" "$scripts/requirements-no-deps.txt")
stamp=$venv/.requirements.sha256
want=$(cat "${pins[@]}" | sha256sum)

if [[ -e $stamp && $(<"$stamp") == "$want" ]]; then
  exit
fi

install() { # install PIP_ARGUMENTS...: once more if the first try fails, as downloads do
  "$venv/bin/python" -m pip install --quiet "$@" ||
    "$venv/bin/python" -m pip install --quiet "$@" || {
    echo "pip could not install $*: is a Python package index reachable (pip config list)?" >&2
    exit 1
  }
}

echo "installing Python packages into $venv" >&2
[[ -x $venv/bin/python ]] || "$("$scripts/find-python.sh")" -m venv "$venv"
install --requirement "${pins[0]}"
install --no-deps --requirement "${pins[1]}"
printf '%s\n' "$want" >"$stamp"
