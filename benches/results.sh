#!/usr/bin/env bash
# Times reading results out of a database of 10,000 runs with 50 metrics each: results.sh [FILE]. Without a file one is made.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
db=${1:-$scratch/big.db}
[ -e "$db" ] || benches/big_db.sh "$db"
export LORAGRID_DB=$db
loragrid=target/dist/loragrid
jobs=$($loragrid query --csv "SELECT job_id FROM runs WHERE sweep = 'big' AND kind = 'train' ORDER BY position LIMIT 2" | tail -2)
timed() { # name, command...
    local name=$1
    shift
    for _ in 1 2 3 4 5; do
        local begin end
        begin=$(date +%s%N)
        "$@" > "$scratch/out" 2> /dev/null
        end=$(date +%s%N)
        echo $(((end - begin) / 1000000))
    done | sort -n | awk -v name="$name" '{ own[NR] = $1 } END { printf "%s: %d ms (%d to %d)\n", name, own[int((NR + 1) / 2)], own[1], own[NR] }'
}
timed "top over 10,000 runs" $loragrid top big
# Two words: the ids.
# shellcheck disable=SC2086
timed "compare two of them, 50 metrics" $loragrid compare $jobs
timed "export of 5,000 runs as CSV" $loragrid export big-5000 --output "$scratch/a.csv"
timed "export of 5,000 runs as Parquet" $loragrid export big-5000 --output "$scratch/a.parquet"
timed "report of 1,000 runs as HTML" $loragrid report big-1000 --output "$scratch/a.html"
echo "that report: $(stat -c %s "$scratch/a.html") bytes"
