#!/usr/bin/env bash
# Creates a virtual environment with a suitable Python (3.12 first, then 3.13 and 3.11) at $1.
set -euo pipefail
target=$1

find_python() {
  for name in python3.12 python3.13 python3.11 python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  echo "attune needs Python 3.11, 3.12 or 3.13; install one (on Debian: apt-get install python3)." >&2
  exit 1
}

python=$(find_python)
[ -x "$target/bin/python" ] && "$target/bin/python" -m pip --version >/dev/null 2>&1 && exit 0
rm -rf "$target"
if ! "$python" -m venv "$target" 2>/dev/null; then
  echo "Python's venv module is incomplete; installing python3-venv …"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
  else
    echo "Install it first: sudo apt-get install python3-venv" >&2
    exit 1
  fi
  rm -rf "$target"
  "$python" -m venv "$target"
fi
