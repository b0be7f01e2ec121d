# shellcheck shell=bash
# What start.sh and test.sh have in common: messages, and installing the programs that they need.
# To be sourced from the root of the repository.
# shellcheck disable=SC2034 # the colours are for the scripts that source this

# Postgres, Nginx and others are not on the PATH of everybody on Debian.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
[[ -z ${HOME-} || ! -d $HOME/.cargo/bin ]] || PATH=$HOME/.cargo/bin:$PATH

if [[ -t 1 && -z ${NO_COLOR-} ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' GREEN='' PLAIN=''
fi

# A line about what is being done.
say() { printf '%s==>%s %s\n' "$GREEN" "$PLAIN" "$*"; }

# Lines that are not to be missed.
warn() {
    local line
    for line in "$@"; do
        printf '%swarning:%s %s\n' "$RED" "$PLAIN" "$line" >&2
    done
}

# Ends the script with one or more lines that say why.
fail() {
    local line
    for line in "$@"; do
        printf '%s%s:%s %s\n' "$RED" "${0##*/}" "$PLAIN" "$line" >&2
    done
    exit 1
}

# As with Compose, there may be none.
ENV_FILE=.env
[[ -z ${COMPOSE_DISABLE_ENV_FILE-} ]] || ENV_FILE=/dev/null

# Takes over what .env sets and the environment does not, so that it counts whether or not there are containers. As with
# Compose the last line of a name counts. Values that refer to others ($) are left to Compose.
load_env_file() {
    local line name value
    local -A taken_over=()
    [[ -r $ENV_FILE ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || continue
        name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]%$'\r'}
        [[ -z ${!name+set} || -n ${taken_over[$name]-} ]] || continue
        case $value in
            \'*\'*) value=${value#\'} value=${value%%\'*} ;;
            *'$'*) continue ;;
            \"*\"*) value=${value#\"} value=${value%%\"*} ;;
            *) value=${value%%[[:space:]]#*} value=${value%"${value##*[![:space:]]}"} ;;
        esac
        export "$name=$value"
        taken_over[$name]=yes
    done <"$ENV_FILE"
}

# Whether .env gives a name a value.
in_env_file() { grep -qsE "^[[:space:]]*(export[[:space:]]+)?$1=[^[:space:]]" "$ENV_FILE"; }

have() { command -v "$1" >/dev/null 2>&1; }

# Whether a program of this machine listens on a port.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# need_a_port PORT…: ends the script if all of these are taken.
need_a_port() {
    local port ports=$*
    for port in "$@"; do
        taken "$port" || return 0
    done
    fail "taken by another program: port ${ports// / and port }. HTTP_PORT, in the environment or in .env, chooses another."
}

have_postgres() {
    have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

# A compiler without the C library's headers is of no use.
have_c_compiler() {
    have cc && printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null
}

# Installs, with apt, what is missing of the programs that a cluster needs, and of those that are given by name.
#   need_programs [PROGRAM…]
need_programs() {
    local packages=() program
    have_c_compiler || packages+=(gcc libc6-dev)
    have_postgres || packages+=(postgresql)
    for program in redis-server nginx openssl curl "$@"; do
        have "$program" || packages+=("$program")
    done
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || packages+=(ca-certificates)
    ((${#packages[@]})) || return 0
    need_packages "${packages[@]}"
}

# Installs Debian packages, none of whose services is started.
need_packages() {
    local packages=("$@")
    have apt-get || fail "missing: ${packages[*]} (names of Debian packages)." \
        'This machine has no apt-get: install them with its own package manager and run again.'
    local as_root=()
    if ((EUID != 0)); then
        have sudo || fail "missing: ${packages[*]}. Installing them needs root, and there is no sudo here." \
            "As root: $PWD/scripts/install-packages.sh ${packages[*]}"
        as_root=(sudo)
    fi
    say "Installing ${packages[*]} (their services are not started)"
    "${as_root[@]}" scripts/install-packages.sh "${packages[@]}" ||
        fail "could not install ${packages[*]}; apt's message is above."
}

# The Redis of older systems cannot do what the scripts of Gatefold ask of it.
need_redis_7() {
    local version
    version=$(redis-server --version)
    if [[ ! $version =~ v=([0-9]+) ]] || ((BASH_REMATCH[1] < 7)); then
        fail 'Redis 7.0 or newer is needed, as in Debian 12 and Ubuntu 24.04; this machine has' "$version"
    fi
}

need_rust() {
    have cargo || fail 'Rust is not installed, or cargo is not on the PATH.' \
        'See https://rustup.rs, open a new shell, and run again.'
}
