#!/usr/bin/env bash
# Names every build tool that is missing or too old, with the command that installs it on Debian
# and Ubuntu, and fails if there is one.
set -euo pipefail

missing=0
need() { # need WHAT COMMAND_THAT_INSTALLS_IT
  printf 'missing: %s\n  install it with: %s\n' "$1" "$2" >&2
  missing=1
}

at_least() { # at_least VERSION MINIMUM
  [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}

if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
  need "Rust 1.89 or later (cargo)" "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
elif rust=$(rustc --version | awk '{print $2}') && ! at_least "$rust" 1.89; then
  need "Rust 1.89 or later (found $rust)" "rustup update stable"
fi

if ! command -v javac >/dev/null; then
  need "JDK 17 or later (javac)" "sudo apt-get install openjdk-17-jdk-headless"
elif java=$(javac -version 2>&1 | awk '{print $2}') && ! at_least "$java" 17; then
  need "JDK 17 or later (found $java)" "sudo apt-get install openjdk-17-jdk-headless"
fi

command -v mvn >/dev/null || need "Maven (mvn)" "sudo apt-get install maven"
command -v make >/dev/null || need "make" "sudo apt-get install make"
command -v c++ >/dev/null || need "a C++ compiler (c++)" "sudo apt-get install g++"

if ! python=$("$(dirname "$0")/find-python.sh"); then
  need "Python 3.11" "sudo apt-get install python3.11 python3.11-venv"
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  need "Python 3.11's venv module" "sudo apt-get install python3.11-venv"
fi

exit "$missing"
