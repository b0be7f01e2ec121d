#!/usr/bin/env bash
# The `keys` image: makes the secrets that a cluster of containers is missing, and rotates its keys.
#
#   (none)        make what is missing: the keys in /run/keys, their public half in /run/public-keys, and the passwords of the
#                 owner of Postgres's database in /run/database, of the role of the replicas in /run/database-role, and of
#                 Redis in /run/redis. Refuses if EDGE is `plain` and was not before (GIVE_UP_HTTPS=1).
#                 Where there are no keys yet, those in /run/host-keys are taken, if there are any
#   rotate …      as `generate-keys.sh rotate`, and publish the result
#   replace       as `generate-keys.sh --force`: other keys, and everybody is logged out
#
# A place for each, so that every container gets only what it needs: ws the public keys and Redis's password, api the private
# keys and the passwords of Redis and of its own role, and only `migrate` and Postgres the owner's.
set -euo pipefail

readonly KEYS=/run/keys PUBLIC=/run/public-keys DATABASE=/run/database ROLE=/run/database-role REDIS=/run/redis HOST=/run/host-keys
readonly GENERATE=${BASH_SOURCE[0]%/*}/generate-keys.sh

fail() {
    printf 'container-keys.sh: %s\n' "$@" >&2
    exit 1
}

# Keys of the host are readable for their owner only, who may be anybody. So Compose starts this as root, who may read them and
# become somebody else, and nothing more: they are opened here, and read below by the user to whom everything else belongs.
if [[ -z ${HOST_KEYS+set} ]]; then
    HOST_KEYS=''
    for name in private.pem public.pem refresh.key private.next.pem refresh.next.key; do
        [[ -e $HOST/$name ]] || continue
        [[ -r $HOST/$name ]] || fail "keys/$name cannot be read by user $EUID: let it be, or move it away."
        exec {descriptor}<"$HOST/$name"
        HOST_KEYS+=" $name=$descriptor"
    done
    export HOST_KEYS
    ((EUID != 0)) || exec setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs "${BASH_SOURCE[0]}" "$@"
fi
declare -A host=()
for name in $HOST_KEYS; do
    host[${name%%=*}]=${name#*=}
done

# What ws reads. One rename: a replica sees the old file or the new one.
publish() {
    ! cmp --silent "$KEYS/public.pem" "$PUBLIC/public.pem" || return 0
    cp "$KEYS/public.pem" "$PUBLIC/.public.pem"
    mv -fT "$PUBLIC/.public.pem" "$PUBLIC/public.pem"
}

make_keys() {
    local name there=()
    for name in private.pem public.pem refresh.key; do
        [[ ! -e $KEYS/$name ]] || there+=("$name")
    done
    if ((${#there[@]} == 3)); then
        ((${#host[@]} == 0)) || echo 'There are keys in the volume: those in keys/ are not looked at.'
    elif ((${#there[@]} == 0 && ${#host[@]} > 0)); then
        take_keys
    else
        # A part of a set: generate-keys.sh says what is wrong, and what can be done.
        "$GENERATE" --dir "$KEYS"
    fi
}

# Whoever starts a cluster that serves https without docker-compose.tls.yml would replace it by one that serves plain http: cookies that
# anybody can read, and nobody at the port of https. When this ends with an error nothing that serves is started.
keep_https() {
    if [[ ${EDGE-} == proxied && ${COOKIE_SECURE-} != true ]]; then
        fail 'EDGE=proxied means that a proxy ends TLS: set COOKIE_SECURE=true, too, or browsers would send the refresh cookie over plain http.'
    elif [[ ${EDGE-} == tls || ${EDGE-} == proxied ]]; then
        [[ -e $KEYS/https ]] || : >"$KEYS/https"
    elif [[ -e $KEYS/https && ${GIVE_UP_HTTPS-} != 1 ]]; then
        fail 'This cluster serves https, and was to be started without docker-compose.tls.yml and without EDGE=proxied.' \
            'Put COMPOSE_FILE=docker-compose.yml:docker-compose.tls.yml, or EDGE=proxied, into .env, and repeat the command.' \
            'To serve plain http from now on: GIVE_UP_HTTPS=1'
    else
        rm -f -- "$KEYS/https"
    fi
}

# The keys of the host become those of the volume. A pair without refresh.key, which is Gatefold's own, is given one.
take_keys() {
    local staging name refusal
    for name in private.pem public.pem; do
        [[ -n ${host[$name]-} ]] || fail "keys/ holds a part of a set, without $name: complete it, or empty it."
    done
    umask 077
    staging=$(mktemp -d -- "$KEYS/.new.XXXXXX")
    # shellcheck disable=SC2064 # the name is known now
    trap "rm -rf -- '$staging'" EXIT
    for name in "${!host[@]}"; do
        cat <&"${host[$name]}" >"$staging/$name"
    done
    # As PKCS#8, whatever it was.
    openssl pkey -in "$staging/private.pem" -passin pass: -out "$staging/pkcs8" 2>/dev/null ||
        fail 'keys/private.pem is no private key, or a pass phrase protects it.'
    mv -fT "$staging/pkcs8" "$staging/private.pem"
    [[ -e $staging/refresh.key ]] || openssl rand -base64 32 >"$staging/refresh.key"
    # Once keys are in the volume, those of the host are not looked at: what replicas cannot use must not get there.
    refusal=$("$GENERATE" check --dir "$staging" 2>&1) ||
        fail "${refusal//"$staging"/keys}" 'Or empty keys/, and the step makes a set.'
    chmod 644 "$staging/public.pem"
    trap '' INT TERM HUP
    for name in "$staging"/*; do
        mv -fT "$name" "$KEYS/${name##*/}"
    done
    echo "Took the keys in keys/ (${!host[*]}); from now on those in the volume count."
}

# make_password FOLDER: once. Others than who made it are to read it: Postgres, Redis. Postgres keeps the password that it was
# first started with, in the volume of its data.
make_password() {
    [[ ! -e $1/password ]] || return 0
    openssl rand -hex 24 >"$1/.password"
    chmod 444 "$1/.password"
    mv -fT "$1/.password" "$1/password"
    echo "Made the password in $1."
}

# write FILE MODE: what comes in, at once or not at all, unless it is there already.
write() {
    local file=$1 new=${1%/*}/.${1##*/}
    (umask 077 && cat >"$new")
    if cmp --silent "$new" "$file"; then
        rm "$new"
    else
        chmod "$2" "$new"
        mv -fT "$new" "$file"
    fi
}

make_passwords() {
    local folder owner role
    for folder in "$DATABASE" "$ROLE" "$REDIS"; do
        make_password "$folder"
    done
    owner=$(<"$DATABASE/password") role=$(<"$ROLE/password")
    # As libpq and sqlx read them, and from nobody else's file.
    write "$DATABASE/pgpass" 600 <<<"*:*:*:*:$owner"
    write "$ROLE/pgpass" 600 <<<"*:*:*:*:$role"
    write "$DATABASE/pgpass.both" 600 <<<"*:*:*:gatefold_api:$role"$'\n'"*:*:*:*:$owner"
    write "$REDIS/redis.conf" 444 <<<"requirepass $(<"$REDIS/password")"
}

case ${1-} in
    '')
        keep_https
        make_keys
        make_passwords
        ;;
    rotate) "$GENERATE" "$@" --dir "$KEYS" ;;
    replace) "$GENERATE" --force --dir "$KEYS" ;;
    *)
        echo "container-keys.sh: expected nothing, 'rotate' or 'replace', and not '$1'" >&2
        exit 64
        ;;
esac
publish
