#!/usr/bin/env bash
# The `dev` image: builds a crate of the mounted working copy and runs its program, anew at every change of a source.
#   container-dev.sh gatefold-api|gatefold-ws
set -uo pipefail

readonly program=${1:?'which program?'}
# entr ends its child with SIGTERM before the next start, and itself (-d) when files have come or gone.
while true; do
    # shellcheck disable=SC2016 # the inner shell expands it
    find . -path ./target -prune -o \
        \( -name '*.rs' -o -name '*.toml' -o -name '*.lua' -o -name '*.sql' -o -name Cargo.lock \) -print |
        entr -dnr bash -c 'cargo build --package "$0" && exec "$CARGO_TARGET_DIR/debug/$0"' "$program"
    sleep 0.5
done
