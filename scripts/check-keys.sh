#!/usr/bin/env bash
# Checks the step `keys` of the containers (container-keys.sh) without an engine: what it makes, takes, refuses and leaves.
# Part of check-deployment.sh.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# The passwords that the step `keys` makes: three, in the forms in which they are read, and none anew where one is. The files of
# 0.1.0 in the volume of the owner's password stay what they are.
check_passwords() {
    local run=$1 owner role redis
    owner=$(<"$run/database/password") role=$(<"$run/database-role/password") redis=$(<"$run/redis/password")
    [[ $(printf '%s\n' "$owner" "$role" "$redis" | grep -xE '[0-9a-f]{48}' | sort -u | wc -l) == 3 ]] || fail 'not three passwords'
    [[ $(stat -c '%a' "$run"/{database,database-role,redis}/password "$run"/database/pgpass{,.both} "$run/database-role/pgpass" \
        "$run/redis/redis.conf" | xargs) == '444 444 444 600 600 600 444' ]] || fail 'the passwords have other modes' "$(ls -lR "$run")"
    [[ $(<"$run/redis/redis.conf") == "requirepass $redis" && $(<"$run/database/pgpass") == "*:*:*:*:$owner" ]] ||
        fail 'Redis or Postgres gets another password'
    [[ $(<"$run/database/pgpass.both") == "*:*:*:gatefold_api:$role"$'\n'"*:*:*:*:$owner" ]] || fail 'migrate gets other passwords'
    rm -r "$run"/{database-role,redis}/* "$run/database/pgpass.both"
    keys || fail 'the step keys fails on the volumes of 0.1.0:' "$(<"$work/keys.log")"
    [[ $(<"$run/database/password") == "$owner" && $(<"$run/database-role/pgpass") == "*:*:*:*:$(<"$run/database-role/password")" ]] ||
        fail 'the step keys replaces a password of 0.1.0, or makes none beside it'
    # As Compose starts it, and asks it for its health.
    redis=$(<"$run/redis/password")
    redis-server "$run/redis/redis.conf" --port 0 --unixsocket "$work/socket" --save '' --dir "$work" >"$work/redis.log" 2>&1 &
    for _ in {1..100}; do
        [[ ! -S $work/socket ]] || break
        sleep 0.1
    done
    [[ $(redis-cli -s "$work/socket" ping 2>&1) == NOAUTH* && $(REDISCLI_AUTH=$redis redis-cli -s "$work/socket" ping) == PONG ]] ||
        fail 'Redis does not ask for its password' "$(<"$work/redis.log")"
    REDISCLI_AUTH=$redis redis-cli -s "$work/socket" shutdown nosave >/dev/null 2>&1 || true
}

# The step `keys` of Compose, in folders of ours: as root it becomes user 65532, and as anybody else it stays who it is.
check_keys() {
    local case image=$work/image run=$work/image/run log=$work/keys.log
    mkdir -p "$image" "$run"/{keys,public-keys,database,database-role,redis,host-keys}
    cp generate-keys.sh "$image"
    sed "s|/run/|$run/|g" scripts/container-keys.sh >"$image/container-keys.sh"
    chmod 711 "$work"
    chmod 755 "$image"/*.sh
    ((EUID != 0)) || chown -R 65532 "$run"/{keys,public-keys,database,database-role,redis}
    keys() { "$image/container-keys.sh" >"$log" 2>&1; }
    refuses() {
        ! keys || fail "the step keys takes $1"
        [[ -z $(ls -A "$run/keys") ]] || fail "the step keys leaves something of $1"
    }
    cp generate-keys.sh "$run/host-keys/README"
    openssl genpkey -algorithm RSA -out "$run/other.pem" 2>/dev/null
    openssl genpkey -algorithm RSA 2>/dev/null | openssl rsa -traditional -out "$run/host-keys/private.pem" 2>/dev/null
    chmod 600 "$run/host-keys/private.pem"
    refuses 'half a pair'
    openssl pkey -in "$run/other.pem" -pubout -out "$run/host-keys/public.pem"
    refuses 'halves of two pairs'
    cp "$run/host-keys/private.pem" "$run/good.pem"
    openssl rand -base64 32 >"$run/good.key"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$run/ec.pem" 2>/dev/null
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2047 -out "$run/2047.pem" 2>/dev/null
    # A good set, with one thing that replicas cannot use.
    while IFS=: read -r case file change; do
        cp "$run/good.pem" "$run/host-keys/private.pem"
        cp "$run/good.key" "$run/host-keys/refresh.key"
        [[ $file != private.pem ]] || eval "$change" >"$run/host-keys/private.pem"
        openssl pkey -in "$run/host-keys/private.pem" -pubout -out "$run/host-keys/public.pem"
        [[ $file == private.pem ]] || eval "$change" >>"$run/host-keys/$file"
        refuses "$case"
        [[ $(<"$log") == *"$file"*'Nothing was changed'* ]] || fail "the step keys does not say what to do with $case:" \
            "$(<"$log")"
        rm "$run"/host-keys/{*.pem,*.key}
    done <<'TABLE'
an EC key:private.pem:cat "$run/ec.pem"
an RSA key of 2047 bits:private.pem:cat "$run/2047.pem"
an EC key beside the public key:public.pem:openssl pkey -in "$run/ec.pem" -pubout
a short key beside the public key:public.pem:openssl pkey -in "$run/2047.pem" -pubout
a private key beside the public key:public.pem:cat "$run/ec.pem"
a public key that is cut off:public.pem:echo -----BEGIN PUBLIC KEY-----
an empty refresh.key:refresh.key:: >"$run/host-keys/refresh.key"
a short line in refresh.key:refresh.key:openssl rand -base64 31
a line of refresh.key that is no base64:refresh.key:echo "$(openssl rand -hex 31)!!"
an EC key that is to sign next:private.next.pem:cat "$run/ec.pem"
a short refresh key that comes next:refresh.next.key:openssl rand -base64 16
TABLE
    cp generate-keys.sh "$run/host-keys/README"
    cp "$run/good.pem" "$run/host-keys/private.pem"
    openssl pkey -in "$run/host-keys/private.pem" -pubout -out "$run/host-keys/public.pem"
    keys || fail 'the step keys does not take keys of the host:' "$(<"$log")"
    grep -q '^Took the keys' "$log" || fail 'the step keys does not say that it took keys'
    [[ $(stat -c %a "$run/keys"/{private.pem,public.pem,refresh.key} | xargs) == '600 644 600' ]] ||
        fail 'the step keys leaves other modes' "$(ls -l "$run/keys")"
    grep -q 'BEGIN PRIVATE KEY' "$run/keys/private.pem" || fail 'the step keys takes a key in another form than PKCS#8'
    cmp "$run/host-keys/public.pem" "$run/public-keys/public.pem"
    check_passwords "$run"
    openssl pkey -in "$run/other.pem" -pubout -out "$run/host-keys/public.pem"
    cp "$run/other.pem" "$run/host-keys/private.pem"
    keys || fail 'the step keys fails the second time:' "$(<"$log")"
    ! cmp --silent "$run/host-keys/public.pem" "$run/keys/public.pem" || fail 'the step keys replaces keys'
    rm "$run"/host-keys/*.pem "$run"/keys/*
    keys || fail 'the step keys fails without keys of the host:' "$(<"$log")"
    grep -q '^Made private.pem' "$log" || fail 'the step keys makes none:' "$(<"$log")"
    [[ -z $(find "$run" -name '.*' -print) ]] || fail 'the step keys leaves files'
    EDGE=tls keys || fail 'the step keys refuses https:' "$(<"$log")"
    EDGE=tls keys || fail 'the step keys refuses https the second time:' "$(<"$log")"
    ! EDGE=plain keys || fail 'the step keys lets https be taken away'
    grep -q 'COMPOSE_FILE=docker-compose.yml:docker-compose.tls.yml' "$log" || fail 'not said how https is kept:' "$(<"$log")"
    ! EDGE=proxied keys || fail 'the step keys allows cookies over plain http behind a proxy with TLS'
    grep -q 'set COOKIE_SECURE=true' "$log" || fail 'not said what a proxy with TLS needs:' "$(<"$log")"
    EDGE=proxied COOKIE_SECURE=true keys || fail 'the step keys refuses a proxy with TLS:' "$(<"$log")"
    EDGE=plain GIVE_UP_HTTPS=1 keys || fail 'the step keys does not let https be given up:' "$(<"$log")"
    EDGE=plain keys || fail 'the step keys remembers https that was given up:' "$(<"$log")"
    echo 'keys: made, or taken from the host, once'
}

check_keys
