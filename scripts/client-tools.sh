#!/usr/bin/env bash
# Installs the programs that lint the description of the API, and those that generate clients from it and verify tokens, once,
# and says where they are.
#   scripts/client-tools.sh node      from npm: spectral, openapi-typescript, tsc, jose, in node_modules
#   scripts/client-tools.sh python    from PyPI: openapi-python-client, authlib, in bin
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

readonly KIND=${1-} SOURCE=api/tests/clients TOOLS=${CARGO_TARGET_DIR:-$PWD/target}/client-tools
mkdir -p "$TOOLS"
# Tests that run at the same time must not install at the same time.
exec 9>"$TOOLS/lock-$KIND"
flock 9

case $KIND in
    node)
        if ! cmp --silent "$SOURCE/package-lock.json" "$TOOLS/node/installed"; then
            missing=()
            have node || missing+=(nodejs)
            have npm || missing+=(npm)
            ((!${#missing[@]})) || need_packages "${missing[@]}" >&2
            rm -rf "$TOOLS/node"
            mkdir "$TOOLS/node"
            cp "$SOURCE"/package{,-lock}.json "$TOOLS/node/"
            (cd "$TOOLS/node" && npm ci --ignore-scripts --no-audit --no-fund) >&2
            cp "$SOURCE/package-lock.json" "$TOOLS/node/installed"
        fi
        ;;
    python)
        if ! cmp --silent "$SOURCE/requirements.txt" "$TOOLS/python/installed"; then
            python3 -c 'import ensurepip' 2>/dev/null || need_packages python3-venv >&2
            rm -rf "$TOOLS/python"
            python3 -m venv "$TOOLS/python"
            "$TOOLS/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$SOURCE/requirements.txt" >&2
            cp "$SOURCE/requirements.txt" "$TOOLS/python/installed"
        fi
        ;;
    *) fail 'Usage: scripts/client-tools.sh node|python' ;;
esac
printf '%s\n' "$TOOLS/$KIND"
