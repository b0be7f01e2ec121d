#!/usr/bin/env bash
# The `keys` image: makes the secrets that a cluster of containers is missing, and rotates its keys.
#
#   (none)        make what is missing: the keys in /run/keys, their public half in /run/public-keys, and the password of
#                 Postgres in /run/database
#   rotate …      as `generate-keys.sh rotate`, and publish the result
#   replace       as `generate-keys.sh --force`: other keys, and everybody is logged out
#
# Three places, so that each container gets only what it needs: ws the public keys, Postgres its password, api all.
set -euo pipefail

readonly KEYS=/run/keys PUBLIC=/run/public-keys DATABASE=/run/database
readonly GENERATE=${BASH_SOURCE[0]%/*}/generate-keys.sh

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
    # A part of a set: generate-keys.sh says what is wrong, and what can be done.
    ((${#there[@]} == 3)) || "$GENERATE" --dir "$KEYS"
}

# Once. Postgres keeps the password that it was first started with, in the volume of its data.
make_password() {
    [[ ! -e $DATABASE/pgpass ]] || return 0
    local password
    password=$(openssl rand -hex 24)
    # The superuser of Postgres's container has no rights over files of others.
    printf '%s\n' "$password" >"$DATABASE/password"
    chmod 444 "$DATABASE/password"
    (umask 077 && printf '*:*:*:*:%s\n' "$password" >"$DATABASE/.pgpass")
    mv -fT "$DATABASE/.pgpass" "$DATABASE/pgpass"
    echo "Made the password of Postgres in $DATABASE."
}

case ${1-} in
    '')
        make_keys
        make_password
        ;;
    rotate) "$GENERATE" "$@" --dir "$KEYS" ;;
    replace) "$GENERATE" --force --dir "$KEYS" ;;
    *)
        echo "container-keys.sh: expected nothing, 'rotate' or 'replace', and not '$1'" >&2
        exit 64
        ;;
esac
publish
