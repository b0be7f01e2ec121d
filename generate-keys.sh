#!/usr/bin/env bash
# Makes the three keys that a Gatefold cluster needs, and replaces them in steps that no client notices. All replicas of a
# cluster must be given the same ones.
set -Eeuo pipefail

readonly NAMES=(private.pem public.pem refresh.key)
# Keys that are published and do not sign yet.
readonly NEXT_PRIVATE=private.next.pem NEXT_REFRESH=refresh.next.key
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here

usage() {
    cat <<'TEXT'
Usage: ./generate-keys.sh [--force] [--dir DIR]
       ./generate-keys.sh rotate [STEP] [access|refresh] [--force] [--quiet] [--settle TIME] [--dir DIR]
       ./generate-keys.sh check [--dir DIR]

Makes, in DIR (default: keys/ beside this script):

  private.pem   RSA 2048, PKCS#8: signs access tokens. Secret, mode 600.
  public.pem    the public half, SPKI: verifies access tokens. Mode 644.
  refresh.key   32 random bytes in base64: authenticates refresh tokens. Secret, mode 600.

  --force       replace keys that are there. Every access token and every refresh
                token made with the old ones stops working: all users log in again.
  --dir DIR     where to put them
  --help        this text

rotate replaces the keys in DIR one step at a time, so that nobody is logged out: those of
access tokens (private.pem, public.pem), those of refresh tokens (refresh.key), or both.
Running replicas notice each step by themselves.

  begin         make the next key and publish it beside the old one, which goes on signing
  activate      have the next key sign; TIME after `begin`
  retire        drop the old key; when all that it has signed has expired, and TIME more
  (none)        take whichever of these two is due
  status        only say how things are

  --force       do not wait. `activate`: where the next key is not known yet, its tokens are
                refused. `retire`: what the old key has signed is refused at once.
  --quiet       say nothing if nothing is to be done
  --settle TIME how long a change may need to reach everybody (10m): not less than the 5 minutes
                for which others may remember /.well-known/jwks.json

check says whether replicas can use the keys in DIR, also those of a rotation under way, and
changes nothing. rotate checks them, too, before it changes anything.

How long tokens live is read from ACCESS_TOKEN_EXPIRY (15m) and REFRESH_TOKEN_EXPIRY (7d), as
replicas do. Times are a number and s, m, h or d.
TEXT
}

fail() {
    printf 'generate-keys.sh: %s\n' "$@" >&2
    exit 1
}

say() {
    printf '%s\n' "$*"
}

# seconds NAME TIME: a time such as 900, 90s, 15m, 12h or 7d, in seconds.
seconds() {
    local unit=1
    [[ $2 =~ ^([0-9]{1,9})([smhd]?)$ ]] || fail "$1: expected a time such as 900, 90s, 15m, 12h or 7d, and not '$2'"
    case ${BASH_REMATCH[2]} in
        m) unit=60 ;;
        h) unit=3600 ;;
        d) unit=86400 ;;
    esac
    printf '%d' $((10#${BASH_REMATCH[1]} * unit))
}

# Everything is made in a directory beside the final place, readable by nobody else, and only moved once it is complete.
stage() {
    umask 077
    staging=$(mktemp -d -- "$dir/.new.XXXXXX") || fail "cannot write in $dir"
    trap 'rm -rf -- "$staging"' EXIT
}

make_private() {
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1" 2>"$staging/progress" ||
        fail "openssl could not make an RSA key: $(<"$staging/progress")"
    head -n 1 "$1" | grep -qx -- '-----BEGIN PRIVATE KEY-----' ||
        fail 'this openssl did not write a PKCS#8 key; Gatefold needs OpenSSL 1.1 or newer.'
}

generate() {
    local name existing=()
    if ! $force; then
        for name in "${NAMES[@]}"; do
            [[ ! -e $dir/$name && ! -L $dir/$name ]] || existing+=("$name")
        done
        if ((${#existing[@]})); then
            fail "already in $dir: ${existing[*]}. Nothing was changed." \
                'To keep using them, there is nothing to do. To replace them without logging anybody out, run' \
                "'generate-keys.sh rotate begin'. To replace the whole set, which logs everybody out, run again with" \
                '--force; to make a set elsewhere, use --dir DIR.'
        fi
    fi
    (umask 077 && mkdir -p -- "$dir") || fail "cannot create $dir"
    stage
    make_private "$staging/private.pem"
    openssl pkey -in "$staging/private.pem" -pubout -out "$staging/public.pem"
    openssl rand -base64 32 >"$staging/refresh.key"
    chmod 600 "$staging/private.pem" "$staging/refresh.key"
    chmod 644 "$staging/public.pem"

    # Not to be interrupted between the moves: a private key without its public half is worse than none.
    trap '' INT TERM HUP
    for name in "${NAMES[@]}"; do
        mv -fT -- "$staging/$name" "$dir/$name"
    done
    rm -f -- "$dir/$NEXT_PRIVATE" "$dir/$NEXT_REFRESH"

    say "Made private.pem, public.pem and refresh.key in $dir."
    say 'Keep private.pem and refresh.key secret, and give every replica of one cluster the same set.'
}

# put STAGED NAME LIKE: puts a file in its place at once, with the owner and the mode that LIKE has there.
put() {
    chown --reference="$dir/$3" -- "$staging/$1" || fail "$dir/$3 belongs to somebody else: run this as its owner or as root"
    chmod --reference="$dir/$3" -- "$staging/$1"
    mv -fT -- "$staging/$1" "$dir/$2"
}

# Public keys in PEM on standard input, as a line of base64 each.
lines_of_pem() {
    awk '{ sub(/\r$/, "") } /^-----BEGIN PUBLIC KEY-----$/ { key = ""; next } /^-----END / { print key; next } { key = key $0 }'
}

# The public half of a private key, as a line of base64.
public_half() {
    local pem
    pem=$(openssl pkey -in "$dir/$1" -pubout) || fail "$dir/$1 holds no private key"
    lines_of_pem <<<"$pem"
}

# Puts these keys, a line of base64 each, into public.pem.
publish() {
    local key
    for key in "$@"; do
        printf -- '-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n' "$(fold -w 64 <<<"$key")"
    done >"$staging/public.pem"
    put public.pem public.pem public.pem
}

# Puts these keys, the first of which signs, into refresh.key.
write_refresh() {
    printf '%s\n' "$@" >"$staging/refresh.key"
    put refresh.key refresh.key refresh.key
}

# Each kind of key is in one of these states, whatever was interrupted: what is in the files says which.
#   steady     one key, which signs
#   begun      there is a next key, not published yet
#   published  the next key is published and does not sign yet
#   retiring   it signs, and what the one before has signed is still accepted
# Sets state, since (when it came about), current and next (keys, a line each) and others (keys that neither is).
look() {
    local kind=$1 keys=() key since_file
    state=steady current='' next='' others=()
    if [[ $kind == access ]]; then
        current=$(public_half private.pem)
        [[ ! -e $dir/$NEXT_PRIVATE ]] || next=$(public_half "$NEXT_PRIVATE")
        mapfile -t keys < <(lines_of_pem <"$dir/public.pem")
    else
        mapfile -t keys < <(tr -d '\r' <"$dir/refresh.key" | grep .)
        current=${keys[0]}
        [[ ! -e $dir/$NEXT_REFRESH ]] || next=$(<"$dir/$NEXT_REFRESH")
        # `activate` was interrupted before its last move.
        [[ $next != "$current" ]] || next=''
    fi
    for key in "${keys[@]}"; do
        [[ $key == "$current" || $key == "$next" ]] || others+=("$key")
    done
    if [[ -n $next && " ${keys[*]} " == *" $next "* ]]; then
        state=published
    elif [[ -n $next ]]; then
        state=begun
    elif ((${#others[@]})); then
        state=retiring
    fi
    since_file=refresh.key
    [[ $kind == refresh ]] || since_file=public.pem
    [[ $kind$state != accessretiring ]] || since_file=private.pem
    since=$(stat -c %Y -- "$dir/$since_file")
}

begin() {
    local kind=$1
    case $state in
        published) fail "a next $kind key is published already: next is 'rotate activate $kind'" ;;
        retiring) fail "the old $kind key is still accepted: next is 'rotate retire $kind'" ;;
    esac
    if [[ $kind == access ]]; then
        if [[ $state == steady ]]; then
            make_private "$staging/private.pem"
            put private.pem "$NEXT_PRIVATE" private.pem
            next=$(public_half "$NEXT_PRIVATE")
        fi
        publish "$current" "$next" "${others[@]}"
    else
        if [[ $state == steady ]]; then
            openssl rand -base64 32 >"$staging/refresh.key"
            next=$(<"$staging/refresh.key")
            put refresh.key "$NEXT_REFRESH" refresh.key
        fi
        write_refresh "$current" "$next" "${others[@]}"
    fi
    say "$kind: a next key is published; the old one goes on signing."
}

activate() {
    local kind=$1
    [[ $state == published ]] || fail "there is no next $kind key that is published: first comes 'rotate begin $kind'"
    if [[ $kind == access ]]; then
        touch -- "$dir/$NEXT_PRIVATE"
        mv -fT -- "$dir/$NEXT_PRIVATE" "$dir/private.pem"
    else
        write_refresh "$next" "$current" "${others[@]}"
        rm -f -- "$dir/$NEXT_REFRESH"
    fi
    say "$kind: the next key signs; what the old one has signed is still accepted."
}

retire() {
    local kind=$1
    [[ $state == retiring ]] || fail "there is no old $kind key: it comes after 'rotate activate $kind'"
    if [[ $kind == access ]]; then
        publish "$current"
    else
        write_refresh "$current"
        rm -f -- "$dir/$NEXT_REFRESH"
    fi
    say "$kind: the old key is gone; what it has signed is not accepted any more."
}

# Sets the step that comes next (none: empty) and when it may be taken.
plan() {
    local lifetime
    lifetime=$(seconds ACCESS_TOKEN_EXPIRY "${ACCESS_TOKEN_EXPIRY:-15m}")
    [[ $1 == access ]] || lifetime=$(seconds REFRESH_TOKEN_EXPIRY "${REFRESH_TOKEN_EXPIRY:-7d}")
    case $state in
        steady) step='' due=0 ;;
        begun) step=begin due=0 ;;
        published) step=activate due=$((since + settle)) ;;
        retiring) step=retire due=$((since + lifetime + settle)) ;;
    esac
}

when() {
    date -d "@$1" '+%Y-%m-%d %H:%M:%S %Z'
}

unusable() {
    fail "$@" 'Put another there; ./generate-keys.sh --dir DIR makes a set. Nothing was changed.'
}

# check_rsa NAME WHAT OPTION…: replicas accept RSA keys of 2048 bits or more (RFC 7518 3.3), read from standard input.
check_rsa() {
    local name=$1 what=$2 text bits
    shift 2
    text=$(openssl rsa "$@" -passin pass: -noout -text 2>/dev/null) ||
        unusable "$name: $what is no RSA key, and tokens are signed with RS256."
    [[ $text =~ \(([0-9]+)\ bit ]] || unusable "$name: this openssl does not say how many bits $what has."
    bits=${BASH_REMATCH[1]}
    ((bits >= 2048)) || unusable "$name: $what has $bits bits, and 2048 are needed."
}

# check_refresh NAME: each line is 32 bytes or more in base64 (RFC 4648 4), and there is one at least.
check_refresh() {
    local line bytes lines=0
    # Without the white space around it.
    while read -r line || [[ -n $line ]]; do
        line=${line%$'\r'}
        [[ -n $line ]] || continue
        lines=$((lines + 1))
        bytes=$(openssl base64 -d -A <<<"$line" 2>/dev/null | wc -c)
        # What is no base64 decodes to something else than what it came from, or to nothing.
        if ((bytes < 32)) || [[ $(openssl base64 -d -A <<<"$line" | openssl base64 -A) != "$line" ]]; then
            unusable "$1: line $lines is not 32 bytes or more in base64."
        fi
    done <"$dir/$1"
    ((lines)) || unusable "$1 holds no key."
}

# Whether replicas can use what is there, and a rotation can go on with it.
check() {
    local name key keys half
    for name in "${NAMES[@]}"; do
        [[ -f $dir/$name ]] || unusable "there is no $dir/$name."
    done
    for name in private.pem "$NEXT_PRIVATE"; do
        [[ ! -e $dir/$name ]] || check_rsa "$name" 'the key' <"$dir/$name"
    done
    head -n 1 "$dir/public.pem" | grep -q -- '^-----BEGIN PUBLIC KEY-----' ||
        unusable 'public.pem is not a public key in PEM form (it begins with -----BEGIN PUBLIC KEY-----).'
    mapfile -t keys < <(lines_of_pem <"$dir/public.pem")
    [[ $(grep -c -- '^-----' "$dir/public.pem") == $((${#keys[@]} * 2)) &&
        $(grep -cE -- '^-----(BEGIN|END) PUBLIC KEY-----' "$dir/public.pem") == $((${#keys[@]} * 2)) ]] ||
        unusable 'public.pem is cut off, or holds something else than public keys.'
    for key in "${keys[@]}"; do
        check_rsa public.pem 'one of the keys' -pubin \
            < <(printf -- '-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n' "$(fold -w 64 <<<"$key")")
    done
    half=$(public_half private.pem)
    [[ " ${keys[*]} " == *" $half "* ]] || unusable 'public.pem is not the public half of private.pem, nor is that in it.'
    for name in refresh.key "$NEXT_REFRESH"; do
        [[ ! -e $dir/$name ]] || check_refresh "$name"
    done
}

# What comes next, in words.
tell() {
    look "$1"
    plan "$1"
    case $state in
        steady) $quiet || say "$1: one key; 'rotate begin $1' replaces it." ;;
        begun) say "$1: a next key was made and not published: 'rotate begin $1' goes on." ;;
        *) $quiet || say "$1: next is 'rotate $step $1', from $(when "$due") on." ;;
    esac
}

rotate() {
    local wanted=$1 kind kinds=(access refresh) name state since current next others step due
    [[ -z $2 ]] || kinds=("$2")
    for name in "${NAMES[@]}"; do
        [[ -f $dir/$name ]] || fail "there is no $dir/$name: './generate-keys.sh' makes the first keys"
    done
    check
    exec {lock}<"$dir"
    flock -n "$lock" || fail "another rotation is at work in $dir"
    stage
    # Each step is one move of one file; between two of them nothing is lost, but it need not be tried.
    trap '' INT TERM HUP
    for kind in "${kinds[@]}"; do
        look "$kind"
        plan "$kind"
        case $wanted in
            begin) begin "$kind" ;;
            activate | retire)
                if [[ $wanted == "$step" ]] && ! $force && ((EPOCHSECONDS < due)); then
                    fail "too early to $wanted the $kind key: not before $(when "$due"). --force does not wait."
                fi
                "$wanted" "$kind"
                ;;
            due) [[ -z $step ]] || ((EPOCHSECONDS < due)) || "$step" "$kind" ;;
        esac
        tell "$kind"
    done
}

force=false quiet=false command=generate wanted=due kind='' settle=10m
dir=$here/keys
while (($#)); do
    case $1 in
        --force) force=true ;;
        --quiet) quiet=true ;;
        --dir | --settle)
            [[ -n ${2-} ]] || fail "$1 needs a value."
            if [[ $1 == --dir ]]; then dir=$2; else settle=$2; fi
            shift
            ;;
        --dir=?*) dir=${1#--dir=} ;;
        --settle=?*) settle=${1#--settle=} ;;
        -h | --help)
            usage
            exit 0
            ;;
        rotate | check) command=$1 ;;
        begin | activate | retire | status) wanted=$1 ;;
        access | refresh) kind=$1 ;;
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

if [[ $command == rotate ]]; then
    settle=$(seconds --settle "$settle")
    rotate "$wanted" "$kind"
elif [[ $command == check && $wanted == due && -z $kind ]]; then
    check
    say "Replicas can use the keys in $dir."
elif [[ $wanted != due || -n $kind ]]; then
    fail "'${kind:-$wanted}' goes with 'rotate': see --help"
else
    generate
fi
