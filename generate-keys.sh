#!/usr/bin/env bash
# Makes the three keys that a Gatefold cluster needs. All of its replicas must be given the same ones.
set -Eeuo pipefail

readonly NAMES=(private.pem public.pem refresh.key)
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here

usage() {
    cat <<'TEXT'
Usage: ./generate-keys.sh [--force] [--dir DIR]

Makes, in DIR (default: keys/ beside this script):

  private.pem   RSA 2048, PKCS#8: signs access tokens. Secret, mode 600.
  public.pem    the public half, SPKI: verifies access tokens. Mode 644.
  refresh.key   32 random bytes in base64: authenticates refresh tokens. Secret, mode 600.

  --force       replace keys that are there. Every access token and every refresh
                token made with the old ones stops working: all users log in again.
  --dir DIR     where to put them
  --help        this text
TEXT
}

fail() {
    printf 'generate-keys.sh: %s\n' "$@" >&2
    exit 1
}

force=false
dir=$here/keys
while (($#)); do
    case $1 in
        --force) force=true ;;
        --dir)
            dir=${2-}
            [[ -n $dir ]] || fail '--dir needs a directory.'
            shift
            ;;
        --dir=?*) dir=${1#--dir=} ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            printf '\n' >&2
            fail "unknown argument: $1"
            ;;
    esac
    shift
done

command -v openssl >/dev/null ||
    fail 'openssl is not installed. On Debian or Ubuntu: sudo apt-get install openssl'

if ! $force; then
    existing=()
    for name in "${NAMES[@]}"; do
        [[ ! -e $dir/$name && ! -L $dir/$name ]] || existing+=("$name")
    done
    if ((${#existing[@]})); then
        fail "already in $dir: ${existing[*]}. Nothing was changed." \
            'To keep using them, there is nothing to do. To replace the whole set, which logs everybody out,' \
            'run again with --force; to make a set elsewhere, use --dir DIR.'
    fi
fi

# Everything is made in a directory beside the final place, readable by nobody else, and only moved once it is complete.
umask 077
mkdir -p -- "$dir" || fail "cannot create $dir"
staging=$(mktemp -d -- "$dir/.new.XXXXXX") || fail "cannot write in $dir"
trap 'rm -rf -- "$staging"' EXIT

openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$staging/private.pem" 2>"$staging/progress" ||
    fail "openssl could not make an RSA key: $(<"$staging/progress")"
openssl pkey -in "$staging/private.pem" -pubout -out "$staging/public.pem"
openssl rand -base64 32 >"$staging/refresh.key"

head -n 1 "$staging/private.pem" | grep -qx -- '-----BEGIN PRIVATE KEY-----' ||
    fail 'this openssl did not write a PKCS#8 key; Gatefold needs OpenSSL 1.1 or newer.'
chmod 600 "$staging/private.pem" "$staging/refresh.key"
chmod 644 "$staging/public.pem"

# Not to be interrupted between the moves: a private key without its public half is worse than none.
trap '' INT TERM HUP
for name in "${NAMES[@]}"; do
    mv -fT -- "$staging/$name" "$dir/$name"
done

printf 'Made %s in %s.\n' "private.pem, public.pem and refresh.key" "$dir"
printf 'Keep private.pem and refresh.key secret, and give every replica of one cluster the same set.\n'
