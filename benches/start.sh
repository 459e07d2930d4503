#!/usr/bin/env bash
# Median wall time in milliseconds of commands that must start at once.
set -euo pipefail
cd "$(dirname "$0")/.."
median() {
    for _ in $(seq 21); do
        local begin end
        begin=$(date +%s%N)
        "$@" >/dev/null 2>&1
        end=$(date +%s%N)
        echo $(((end - begin) / 1000))
    done | sort -n | sed -n 11p | awk '{ printf "%.1f ms\n", $1 / 1000 }'
}
echo "loragrid --help: $(median target/dist/loragrid --help)"
echo "loragrid plan sweeps/quickstart.toml: $(median target/dist/loragrid plan sweeps/quickstart.toml)"
