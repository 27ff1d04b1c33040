#!/usr/bin/env bash
# Runs a command with a real PostgreSQL at ATTUNE_TEST_POSTGRES_URL: one that is given, one that already
# listens on this machine, or a private cluster in a temporary directory (installed with apt if need be).
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=$here/.venv/bin/python

reachable() {
  "$python" - "$1" <<'PY' 2>/dev/null
import sys
import psycopg
psycopg.connect(sys.argv[1].replace("+psycopg", ""), connect_timeout=3).close()
PY
}

find_binaries() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }

default=postgresql+psycopg://postgres@127.0.0.1:5432/test
if [ -n "${ATTUNE_TEST_POSTGRES_URL:-}" ]; then exec "$@"; fi
if reachable "$default"; then
  export ATTUNE_TEST_POSTGRES_URL=$default
  exec "$@"
fi

binaries=$(find_binaries)
if [ -z "$binaries" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing PostgreSQL for the integration tests …"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
  binaries=$(find_binaries)
fi
if [ -z "$binaries" ]; then
  echo "!! PostgreSQL is missing and cannot be installed here: its tests are skipped (and fail under CI=true)." >&2
  exec "$@"
fi

directory=$(mktemp -d)
as_owner=()
if [ "$(id -u)" = 0 ]; then
  chown postgres "$directory"
  as_owner=(runuser -u postgres --)
fi
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
stop() {
  (cd / && "${as_owner[@]}" "$binaries/pg_ctl" -D "$directory/data" -m immediate stop >/dev/null 2>&1)
  rm -rf "$directory"
}
trap stop EXIT
(cd / && "${as_owner[@]}" "$binaries/initdb" -D "$directory/data" -U postgres -A trust >/dev/null \
  && "${as_owner[@]}" "$binaries/pg_ctl" -D "$directory/data" -w -l "$directory/log" \
    -o "-p $port -k $directory -c listen_addresses=127.0.0.1 -c fsync=off" start >/dev/null \
  && "${as_owner[@]}" "$binaries/createdb" -h 127.0.0.1 -p "$port" -U postgres test) || { cat "$directory/log" >&2; exit 1; }
ATTUNE_TEST_POSTGRES_URL=postgresql+psycopg://postgres@127.0.0.1:$port/test "$@"
