#!/usr/bin/env bash
# Tests the browser client and the page in Chromium, against a cluster of the built programs. Installs what is missing.
#   scripts/test-client.sh [FILE…]    of client/tests
# CHROMIUM names the browser, where it is not Debian's. GATEFOLD_URL names a deployment in which page.test.js can be run.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

missing=()
have node || missing+=(nodejs)
have npm || missing+=(npm)
[[ -n ${CHROMIUM-} ]] || have chromium || missing+=(chromium)
need_programs "${missing[@]}"
CHROMIUM=${CHROMIUM:-$(command -v chromium)}
GATEFOLD_PROGRAMS=${CARGO_TARGET_DIR:-$PWD/target}/debug
export CHROMIUM GATEFOLD_PROGRAMS

version=$(node --version)
if [[ ! $version =~ ^v([0-9]+) ]] || ((BASH_REMATCH[1] < 18)); then
    fail 'Node.js 18 or newer is needed, as in Debian 12; this machine has' "$version"
fi

cd client/tests
# What is there is left alone if it is what the lock file asks for.
if ! cmp -s package-lock.json node_modules/.installed; then
    npm ci --ignore-scripts --no-audit --no-fund
    cp package-lock.json node_modules/.installed
fi
exec node run.js "$@"
