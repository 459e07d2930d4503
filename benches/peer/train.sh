#!/usr/bin/env bash
# The same training in loragrid and in PEFT, one after the other, in 16 bits and in nf4. Needs `make peer`.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PEER_PYTHON:-.deps/peer/bin/python}
steps=${STEPS:-6}
rows="$LORAGRID_DATA/alpaca_17k.jsonl"
model=$(realpath .deps/models/*.gguf)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A merge with an adapter of zeros is the way from GGUF to a folder that PEFT reads.
"$python" - "$scratch/zero" <<'PY'
import json, sys, os, torch
from safetensors.torch import save_file
os.makedirs(sys.argv[1])
zeros = {f"base_model.model.model.layers.{n}.self_attn.q_proj.lora_{part}.weight": torch.zeros(shape) for n in range(30) for part, shape in (("A", (1, 576)), ("B", (576, 1)))}
save_file(zeros, sys.argv[1] + "/adapter_model.safetensors")
json.dump({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}, open(sys.argv[1] + "/adapter_config.json", "w"))
PY
target/dist/loragrid merge "$model" --adapter "$scratch/zero" --out "$scratch/model" >/dev/null
for form in none bnb.nf4; do
    cat >"$scratch/sweep.toml" <<TOML
name = "peer"
model = "$model"
data = "$rows"
template = "alpaca"
[train]
iterations = $((32 * steps))
batch_size = 32
order = "sequential"
warmup_steps = 0
quantize = "$form"
[lora]
dropout = 0.05
TOML
    target/dist/loragrid run "$scratch/sweep.toml" --db "$scratch/$form.db" >/dev/null 2>&1
    id=$(target/dist/loragrid top --db "$scratch/$form.db" --json | "$python" -c "import json,sys; print([r for r in json.load(sys.stdin)['rows'] if not r['base']][0]['jobs'][0])")
    target/dist/loragrid show "$id" --db "$scratch/$form.db" --json | "$python" -c "
import json, sys
job = json.load(sys.stdin)
print(f'loragrid, $form: {job[\"tokens\"] / job[\"seconds\"]:.0f} tokens/s ({job[\"tokens\"]} tokens, peak {job[\"peak_memory\"] / 1e9:.2f} GB)')"
    "$python" benches/peer/train.py "$scratch/model" "$rows" "$steps" "${form#bnb.}" 2>/dev/null
done
