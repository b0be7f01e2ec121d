#!/usr/bin/env bash
# Lints the description of the API with Spectral. A unit test holds the file and what the replicas serve together.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

tools=$(scripts/client-tools.sh node)
exec "$tools/node_modules/.bin/spectral" lint --ruleset api/tests/clients/spectral.yaml --fail-severity warn docs/openapi.json
