#!/usr/bin/env bash
# Installs the wheel into an empty environment with torch, plans the quickstart and runs a tiny sweep there.
# usage: test_wheel.sh WHEEL MODEL
set -euo pipefail
wheel=$(realpath "$1")
model=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/env"
# Of torch only what a CPU needs: its packages for GPUs take gigabytes.
"$scratch/env/bin/pip" install -q --no-deps "$wheel" torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
cd "$scratch"
cat > sweep.toml <<EOF
name  = "wheel"
model = "$model"
data  = "two_digit_subtraction"
eval  = ["two_digit_subtraction"]
limit = 20
[train]
iterations = 64
batch_size = 8
warmup_steps = 2
labels = "response"
[axes]
"lora.rank" = [4, 8]
EOF
# Nothing but the environment: no libtorch of the build, no engine elsewhere.
run() { env -i HOME="$scratch" PATH="$scratch/env/bin:/usr/bin:/bin" loragrid "$@"; }
run plan sweep.toml
run run sweep.toml
run top --json | python3 -c "import json, sys; rows = json.load(sys.stdin)['rows']; sys.exit(len(rows) != 3 or any(row['state'] != 'done' for row in rows))"
echo "the wheel runs"
