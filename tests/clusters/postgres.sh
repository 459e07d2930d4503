#!/usr/bin/env bash
# Starts a PostgreSQL server on a socket of its own and runs a command with LORAGRID_TEST_POSTGRES naming it: postgres.sh COMMAND...
# POSTGRES_STATE names a folder in which the server's start and stop scripts are left for the command: $POSTGRES_STATE/{stop,start}.
set -euo pipefail
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || bin=$(dirname "$(command -v pg_ctl 2>/dev/null || echo /nowhere/pg_ctl)")
if [ ! -x "$bin/pg_ctl" ]; then
    echo "skipped: PostgreSQL is not installed (Debian: postgresql)"
    exit 0
fi
place=$(mktemp -d /tmp/loragrid-pg.XXXXXX)
chmod 755 "$place"
# The server refuses to run as root.
run=()
user=$(id -un)
if [ "$(id -u)" -eq 0 ]; then
    user=$(id -un postgres 2>/dev/null || echo nobody)
    chown "$user" "$place"
    run=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups env -C "$place" "HOME=$place")
fi
cat > "$place/start" <<START
#!/bin/sh
exec ${run[*]} "$bin/pg_ctl" -s -w -D "$place/data" -l "$place/log" -o "-k $place -h '' -c max_connections=200" start
START
cat > "$place/stop" <<STOP
#!/bin/sh
exec ${run[*]} "$bin/pg_ctl" -s -w -D "$place/data" -m immediate stop
STOP
chmod 755 "$place/start" "$place/stop"
trap '"$place/stop" || true; rm -rf "$place"' EXIT
"${run[@]}" "$bin/initdb" -D "$place/data" --auth=trust --username=loragrid -E UTF8 > "$place/initdb.log"
"$place/start"
export LORAGRID_TEST_POSTGRES="postgres://loragrid@localhost/postgres?host=$place" POSTGRES_STATE=$place
"$@"
