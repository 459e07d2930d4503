#!/usr/bin/env bash
# What other programs make of a report and of exports: pdflatex, pyarrow, DuckDB. The page is left in .deps/formats.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v pdflatex > /dev/null || { echo "test-latex: no pdflatex: install texlive-latex-recommended and texlive-pictures"; exit 1; }
python=.deps/stats/bin/python
[ -x "$python" ] || python3 -m venv .deps/stats
"$python" -c 'import pyarrow, duckdb, duckdb_extension_sqlite_scanner' 2> /dev/null ||
    .deps/stats/bin/pip install -q pyarrow duckdb==1.5.5 duckdb-extension-sqlite-scanner==1.5.5
out=.deps/formats
rm -rf "$out"
mkdir -p "$out"
export LORAGRID_DB="$out/loragrid.db"
target/release/loragrid run sweeps/quickstart.toml --engine target/release/fake-engine > /dev/null 2>&1
target/release/loragrid report --output "$out/quickstart.tex" 2> /dev/null
awk 'n >= 2 { print } /^---$/ { n++ }' src/report/sweep/snapshots/*__latex.snap > "$out/hostile.tex"
for name in quickstart hostile; do
    (cd "$out" && pdflatex -interaction=nonstopmode -halt-on-error "$name.tex" > "$name.out" 2>&1) || { tail -20 "$out/$name.out"; exit 1; }
done
target/release/loragrid export --output "$out/runs.parquet" 2> /dev/null
target/release/loragrid export --output "$out/runs.csv" 2> /dev/null
"$python" tests/reference/test_formats.py "$out"
