#!/usr/bin/env bash
# Makes what the overlay `dev` keeps secret, where it is missing: keys, and the password of its Postgres.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

[[ -e secrets/private.pem ]] || ../../../generate-keys.sh --dir secrets
if [[ ! -e secrets/database.env ]]; then
    password=$(openssl rand -hex 24)
    umask 077
    cat >secrets/database.env <<TEXT
POSTGRES_PASSWORD=$password
DATABASE_URL=postgres://authuser:$password@gatefold-postgres:5432/authdb
TEXT
fi
