#!/usr/bin/env bash
# Makes a database of 10,000 runs with 50 metrics each, through the program and its store: big_db.sh FILE
# Sweeps in it: big (10,000 runs), big-5000 and big-1000, which share runs.
set -euo pipefail
cd "$(dirname "$0")/.."
db=$(realpath -m "${1:?usage: big_db.sh FILE}")
[ ! -e "$db" ] || { echo "big_db: $db is there already"; exit 1; }
mkdir -p "$(dirname "$db")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for number in $(seq 0 99); do
    echo "{\"question\": \"What is $number?\", \"choices\": [\"$number\", \"not $number\"], \"label\": $((number % 2))}"
done > "$scratch/rows.jsonl"
tasks=()
for number in $(seq -w 1 25); do
    tasks+=("\"made_up_$number\"")
    cat > "$scratch/made_up_$number.yaml" <<YAML
task: made_up_$number
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
YAML
done
list() { seq -s, "$@"; }
sweep() { # name, ranks, rates: each with two seeds
    cat > "$scratch/$1.toml" <<TOML
name = "$1"
model = "$PWD/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
data = "two_digit_subtraction"
eval = [$(IFS=,; echo "${tasks[*]}")]

[axes]
"lora.rank" = [$(list "$2")]
"train.learning_rate" = [$(for rate in $(seq "$3"); do printf '%se-5, ' "$rate"; done)]
seed = [1, 2]

[derive]
"lora.alpha" = "2 * lora.rank"
TOML
    target/dist/loragrid --db "$db" submit --include-path "$scratch" "$scratch/$1.toml" | tail -1
}
sweep big 50 100
cargo bench -q --profile dist --features engine,fake-engine --bench big_db -- "$db" big
# Now these are done.
sweep big-5000 50 50
sweep big-1000 20 25
ls -l "$db"
