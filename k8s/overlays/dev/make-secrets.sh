#!/usr/bin/env bash
# Makes what the overlay `dev` keeps secret, where it is missing: keys, and the passwords of its Postgres and its Redis.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
umask 077

new_password() { openssl rand -hex 24; }

[[ -e secrets/private.pem ]] || ../../../generate-keys.sh --dir secrets
if [[ ! -e secrets/database-owner.env ]]; then
    # Of a Postgres that is there already, which keeps its password: database.env of 0.1.0 has it.
    owner=$(sed -n 's/^POSTGRES_PASSWORD=//p' secrets/database.env 2>/dev/null || true)
    [[ -n $owner ]] || owner=$(new_password)
    role=$(new_password)
    printf '%s\n' "$role" >secrets/database-role.password
    echo "DATABASE_URL=postgres://gatefold_api:$role@gatefold-postgres:5432/authdb" >secrets/database.env
    cat >secrets/database-owner.env <<TEXT
POSTGRES_PASSWORD=$owner
DATABASE_OWNER_URL=postgres://authuser:$owner@gatefold-postgres:5432/authdb
TEXT
fi
if [[ ! -e secrets/redis.env ]]; then
    redis=$(new_password)
    echo "requirepass $redis" >secrets/redis.conf
    cat >secrets/redis.env <<TEXT
REDIS_PASSWORD=$redis
REDIS_URL=redis://:$redis@gatefold-redis:6379
TEXT
fi
