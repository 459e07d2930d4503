#!/usr/bin/env bash
# Times the queue: claim and end among 100,000 queued jobs, and 10,000 jobs that do nothing on two slots.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
model=$PWD/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
sweep() { # name, number of cells
    printf 'name = "%s"\nmodel = "%s"\ndata = "two_digit_subtraction"\n[axes]\nseed = [%s]\n' "$1" "$model" "$(seq -s, 1 "$2")"
}
sweep many 100000 > "$scratch/many.toml"
sweep nothing 10000 > "$scratch/nothing.toml"
target/dist/loragrid --db "$scratch/a/a.db" submit "$scratch/many.toml" > /dev/null
cargo bench -q --profile dist --features engine,fake-engine --bench queue -- "$scratch/a/a.db" many
for _ in 1 2 3; do
    rm -rf "$scratch/b"
    target/dist/loragrid --db "$scratch/b/b.db" submit "$scratch/nothing.toml" > /dev/null
    target/dist/loragrid --db "$scratch/b/b.db" work --devices cpu:2 --engine target/dist/fake-engine 2>&1 | tail -1
done
