#!/usr/bin/env bash
# The pages of `loragrid serve` in headless Chromium. Screenshots are left in .deps/browser/shots.
set -euo pipefail
cd "$(dirname "$0")/../.."
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$chromium" ] || { echo "test-serve: no Chromium: install it, or name it with CHROMIUM=FILE"; exit 1; }
work=.deps/browser
mkdir -p "$work"
cp tests/browser/package.json "$work/"
[ -d "$work/node_modules/playwright-core" ] || npm install --silent --no-audit --no-fund --prefix "$work"
cp tests/browser/serve.mjs "$work/"
node "$work/serve.mjs" "$chromium" "$work/shots" "$PWD/target/release/loragrid" "$PWD/target/release/fake-engine" "$PWD/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
