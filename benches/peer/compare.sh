#!/usr/bin/env bash
# loragrid against PEFT and lm_eval on this machine, in one run and alternately: training of one job, of eight, a sweep with
# scores, TruthfulQA, QLoRA, memory. Builds nothing: `make build peer` first, and `make test-parity`, without which no figure counts.
#
# usage: benches/peer/compare.sh [--quick] [--peer VENV] [--json FILE] [--dtype bfloat16|float32] [--only train,pack,sweep,truthfulqa,qlora]
set -euo pipefail
cd "$(dirname "$0")/../.."
peer=.deps/peer
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --peer) peer=$2; shift 2 ;;
        *) arguments+=("$1"); shift ;;
    esac
done
data=${LORAGRID_DATA:-$(realpath -m ../shared/data)}
exec "$peer/bin/python" benches/peer/compare.py target/dist/loragrid .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf "$data" "${arguments[@]}"
