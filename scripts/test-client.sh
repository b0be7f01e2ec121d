#!/usr/bin/env bash
# Tests the browser client and the page in Chromium, against a cluster of the built programs. Installs what is missing.
#   scripts/test-client.sh [FILE…]    of client/tests
# CHROMIUM names the browser, where it is none of those that are looked for: Chromium and Google Chrome.
# GATEFOLD_URL names a deployment in which page.test.js can be run.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

# Whether a browser shows a page, with a profile where the tests have theirs. Ubuntu's chromium is a stub that only says
# that there is a snap, and the snap may not write there.
runs() {
    local profile code=0
    profile=$(mktemp -d /var/tmp/gatefold-browser-XXXXXX)
    timeout 60 "$1" --headless --no-sandbox --disable-gpu --no-first-run "--user-data-dir=$profile" --dump-dom about:blank \
        2>&1 | grep '<body>' >/dev/null || code=1
    rm -rf "$profile" || true
    return "$code"
}

find_browser() {
    local name path
    for name in chromium google-chrome google-chrome-stable chromium-browser; do
        if path=$(command -v "$name") && runs "$path"; then
            printf '%s\n' "$path"
            return
        fi
    done
    return 1
}

missing=()
have node || missing+=(nodejs)
have npm || missing+=(npm)
need_programs "${missing[@]}"

if [[ -n ${CHROMIUM-} ]]; then
    runs "$CHROMIUM" || fail "CHROMIUM=$CHROMIUM does not show a page: try" \
        "    $CHROMIUM --headless --no-sandbox --user-data-dir=/var/tmp/profile --dump-dom about:blank"
elif ! CHROMIUM=$(find_browser); then
    # shellcheck source=/dev/null
    if [[ $(. /etc/os-release && printf '%s' "$ID") == debian ]]; then
        need_packages chromium
    fi
    CHROMIUM=$(find_browser) || fail 'there is no Chromium and no Google Chrome here that runs.' \
        "Ubuntu's chromium is a snap, which cannot be used for this. Install Google Chrome:" \
        '    curl -fsSLO https://dl.google.com/linux/direct/google-chrome-stable_current_amd64.deb' \
        '    sudo apt-get install ./google-chrome-stable_current_amd64.deb' \
        'or say where a browser is: CHROMIUM=/path/to/chrome scripts/test-client.sh'
fi
say "The browser is $CHROMIUM"
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
