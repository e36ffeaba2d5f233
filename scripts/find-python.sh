#!/usr/bin/env bash
# Prints the Python 3.11 interpreter to use; fails, printing nothing, when there is none.
set -euo pipefail
for candidate in python3.11 python3; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    command -v "$candidate"
    exit
  fi
done
exit 1
