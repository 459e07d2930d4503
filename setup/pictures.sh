#!/usr/bin/env bash
# The README's pictures, of the quickstart's results: docs/images/leaderboard.svg and report.png. Needs Chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
chromium=${CHROMIUM:-$(command -v chromium || command -v google-chrome)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export LORAGRID_DB="$scratch/loragrid.db"
target/release/loragrid run sweeps/quickstart.toml > /dev/null
{
	echo '$ loragrid run sweeps/quickstart.toml'
	COLUMNS=112 target/release/loragrid top quickstart | sed 's/; /\n/g'
} | setup/pictures.py > docs/images/leaderboard.svg
target/release/loragrid report quickstart -o "$scratch/report.html"
"$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 --window-size=1280,1500 \
	--screenshot=docs/images/report.png "file://$scratch/report.html" 2> /dev/null
