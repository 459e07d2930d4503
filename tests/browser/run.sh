#!/usr/bin/env bash
# Reports in headless Chromium: of a sweep that the fake engine ran, and of one whose texts are hostile. Screenshots are left in
# .deps/browser/shots.
set -euo pipefail
cd "$(dirname "$0")/../.."
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$chromium" ] || { echo "test-browser: no Chromium: install it, or name it with CHROMIUM=FILE"; exit 1; }
work=.deps/browser
mkdir -p "$work"
cp tests/browser/package.json "$work/"
[ -d "$work/node_modules/playwright-core" ] || npm install --silent --no-audit --no-fund --prefix "$work"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export LORAGRID_DB="$scratch/loragrid.db"
target/release/loragrid run sweeps/quickstart.toml --engine target/release/fake-engine > /dev/null 2>&1
target/release/loragrid report --output "$scratch/quickstart.html" 2> /dev/null
awk 'n >= 2 { print } /^---$/ { n++ }' src/report/sweep/snapshots/*__html.snap > "$scratch/hostile.html"
cp tests/browser/report.mjs "$work/"
node "$work/report.mjs" "$chromium" "$work/shots" "$scratch/quickstart.html" "$scratch/hostile.html"
