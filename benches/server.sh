#!/usr/bin/env bash
# Times a queue on PostgreSQL with 16 workers: claims and ends by processes that do nothing else, and 10,000 jobs that do nothing through
# `loragrid work`; then what workers need who wait beside 100,000 queued jobs. Runs inside tests/clusters/postgres.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${LORAGRID_TEST_POSTGRES:?run with tests/clusters/postgres.sh}"
workers=${WORKERS:-16}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$PWD
model=$root/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
loragrid=$root/${PROGRAMS:-target/dist}/loragrid
fake=$root/${PROGRAMS:-target/dist}/fake-engine
export XDG_CACHE_HOME=$scratch/cache LORAGRID_RESULTS=$scratch/results LORAGRID_DB=$LORAGRID_TEST_POSTGRES
sweep() { # name, first seed, number of cells
    printf 'name = "%s"\nmodel = "%s"\ndata = "two_digit_subtraction"\n[axes]\nseed = [%s]\n' "$1" "$model" "$(seq -s, "$2" $(($2 + $3 - 1)))"
}
sweep claims 1 10000 > "$scratch/claims.toml"
sweep nothing 10001 10000 > "$scratch/nothing.toml"
sweep many 100001 100000 > "$scratch/many.toml"
count() { "$loragrid" query --csv "$1" | tail -1; }

"$loragrid" submit "$scratch/claims.toml" > /dev/null
bench=$(cargo bench -q --profile "${PROFILE:-dist}" --features engine,fake-engine --bench queue --no-run --message-format=json 2> /dev/null \
    | sed -n 's/.*"executable":"\([^"]*queue-[^"]*\)".*/\1/p' | tail -1)
start=$(date +%s.%N)
for part in $(seq 0 $((workers - 1))); do
    (mkdir -p "$scratch/$part" && cd "$scratch/$part" && ln -sfn "$scratch/results" results && "$bench" "$LORAGRID_DB" claims "$part/$workers" 2>&1) &
done
wait
echo "claims and ends: $(echo "10000 / ($(date +%s.%N) - $start)" | bc) jobs/s with opening, $(count "SELECT COUNT(*) FROM runs WHERE sweep = 'claims' AND state = 'done'") done"

"$loragrid" submit "$scratch/nothing.toml" > /dev/null
start=$(date +%s.%N)
for worker in $(seq "$workers"); do
    "$loragrid" work --devices cpu:1 --engine "$fake" > "$scratch/$worker.log" 2>&1 &
done
wait
echo "jobs that do nothing: $(echo "10000 / ($(date +%s.%N) - $start)" | bc) jobs/s, $(count "SELECT COUNT(*) FROM attempts WHERE outcome = 'finished'") attempts of 20000 jobs"

"$loragrid" submit "$scratch/many.toml" > /dev/null
"$loragrid" pause many > /dev/null
for worker in $(seq 8); do
    "$loragrid" work --forever --devices cpu:1 --engine "$fake" > "$scratch/$worker.log" 2>&1 &
done
sleep 20
used() { for pid in $(jobs -p); do awk '{ print $14 + $15 }' "/proc/$pid/stat"; done | paste -sd+ | bc; }
before=$(used)
sleep 60
echo "8 workers that wait beside 100,000 paused jobs: $(echo "scale=2; ($(used) - $before) / 60 / 8" | bc) % of a core each"
jobs -p | xargs kill
wait || true
