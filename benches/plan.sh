#!/usr/bin/env bash
# Wall time and peak memory of a plan of 100,000 cells, three times.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
list() { seq -s, 1 "$1"; }
cat > "$scratch/big.toml" <<TOML
name  = "big"
model = "$PWD/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
data  = "two_digit_subtraction"
eval  = ["two_digit_subtraction", "two_digit_addition"]
limit = 50

[axes]
"lora.rank" = [$(list 100)]
seed        = [$(list 1000)]

[derive]
"lora.alpha" = "2 * lora.rank"
TOML
for _ in 1 2 3; do
    begin=$(date +%s%N)
    target/dist/loragrid --db "$scratch/none.db" plan "$scratch/big.toml" | grep jobs
    end=$(date +%s%N)
    echo "$(((end - begin) / 1000000)) ms"
done
