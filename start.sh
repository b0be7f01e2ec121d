#!/usr/bin/env bash
# Starts Gatefold on this machine and leaves it running: in containers where a Docker engine answers, or else from nothing
# but Rust.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
# shellcheck source=scripts/compose.sh
source scripts/compose.sh
name_project
[[ -n ${HTTP_ADDRESS-} ]] || unset HTTP_ADDRESS
# Of containers only.
[[ -z ${WITHOUT_DOCKER-} ]] || unset HTTP_ADDRESS_IPV6

# The test account of this quick start; nothing else creates it.
readonly TEST_USER=testuser TEST_PASSWORD=password123
target=${CARGO_TARGET_DIR:-$PWD/target}/release
readonly CLUSTER=$target/gatefold-cluster API=$target/gatefold-api

usage() {
    cat <<'TEXT'
Usage: ./start.sh [COMMAND]

  (none)           build, and start the cluster
  status [--json]  what is running, and where; exits with 3 when nothing is
  logs [NAME]      the logs of all processes, or of one (see status)
  stop             stop the cluster; accounts and sessions are kept
  user, session, room, audit, keys …
                   the commands of gatefold-api in this cluster, such as
                   ./start.sh user add -- alice (--help lists them)
  --help           this text

Where a Docker engine of version 25 or newer answers, with Compose 2.24 or newer,
everything runs in its containers (docker-compose.yml). Where none does, what is
missing is installed with apt, and everything runs as processes of this machine.

Environment, or lines NAME=VALUE in the file .env, which the environment overrides:
  WITHOUT_DOCKER=1      do without Docker, although there is an engine
  HTTP_PORT             port of the web interface (80, or 8080 where 80 cannot be had;
                        of containers, any but 80 is then noted in .env)
  HTTP_ADDRESS          where it listens: by default for this machine only (127.0.0.1
                        and, without containers, [::1]); 0.0.0.0 is for everybody, and
                        then no test account is created. IPv6 of containers:
                        HTTP_ADDRESS_IPV6, see docs/deployment.md
  API_REPLICAS          REST replicas (2)
  WS_REPLICAS           WebSocket replicas (2)
  COMPOSE_PROJECT_NAME  of the containers and their data; every clone has one of its
                        own (gatefold- and a digest of its path), and notes it in .env

The settings of the replicas (README.md, "Configuration") are passed on to them,
except for those that say where things are: addresses, ports, stores and keys.
TEXT
}

# Prints the url of the first process of a kind, or with '' the public url of the cluster, from `status --json`.
url_of() {
    awk '{ gsub(/[{},]/, "\n&\n"); print }' <<<"$1" | awk -v kind="$2" '
        function value() { sub(/^[^:]*:[ \t]*"/, ""); sub(/"[ \t]*$/, ""); return $0 }
        function found() { if (!done && url != "") { print url; done = 1 } }
        /^[ \t]*\{/ { depth++; url = ""; is_kind = 0 }
        /^[ \t]*"kind"[ \t]*:/ { is_kind = (value() == kind) }
        /^[ \t]*"url"[ \t]*:[ \t]*"/ { url = value(); if (kind == "" && depth == 1) found() }
        /^[ \t]*\}/ { depth--; if (kind != "" && is_kind) found() }'
}

# Prints the state of the cluster as JSON, if all of its processes are running.
running() {
    local state
    [[ -x $CLUSTER ]] || return 1
    state=$("$CLUSTER" status --json 2>/dev/null) || return 1
    grep -q '"running"' <<<"$state" || return 1
    ! grep -q '"exited"' <<<"$state" || return 1
    printf '%s\n' "$state"
}

# Whether only this machine can reach the web interface.
is_local() {
    local address
    for address in "${HTTP_ADDRESS-}" "${HTTP_ADDRESS_IPV6-}"; do
        [[ -z $address || $address == 127.* || $address == ::1 || $address == '[::1]' ]] || return 1
    done
}

# Adds the test account, unless it is there, with a command that runs gatefold-api. Its password is in this repository: where
# others can reach it, it is not added, and one that is there from before is warned of.
add_test_user() {
    local message
    if ! is_local; then
        # Asks for the user's rooms, for which Postgres is enough.
        ! "$@" room list -- "$TEST_USER" >/dev/null 2>&1 ||
            warn "the test account $TEST_USER is there, whose password everybody knows, and HTTP_ADDRESS=${HTTP_ADDRESS-}${HTTP_ADDRESS_IPV6-} lets others" \
                "reach it. Disable it: ./start.sh user disable -- $TEST_USER"
    elif message=$(printf '%s\n' "$TEST_PASSWORD" | "$@" user add -- "$TEST_USER" 2>&1); then
        say "$message"
    elif [[ $message != *'is taken'* ]]; then
        fail 'the test account could not be created:' "$message"
    fi
}

explain() {
    local url=$1 account="$TEST_USER / $TEST_PASSWORD" reached
    if is_local; then
        reached='from this machine only; HTTP_ADDRESS=0.0.0.0 opens it to others'
    else
        reached="from others, too (HTTP_ADDRESS=${HTTP_ADDRESS-}${HTTP_ADDRESS_IPV6:+, HTTP_ADDRESS_IPV6=$HTTP_ADDRESS_IPV6}), without TLS"
        account='none, since others can reach it (./start.sh user add -- NAME)'
    fi
    cat <<TEXT

${BOLD}Gatefold is running.${PLAIN}

  Web interface   $url/
  REST API        $url/api
  WebSocket       ws${url#http}/ws
  Health check    $url/health

  Reached         $reached
  Test account    $account

Try it, in this order (the cookie jar holds the refresh token):

  # log in, and keep the access token
  TOKEN=\$(curl -sS -c cookies.txt -H 'Content-Type: application/json' \\
    -d '{"username":"$TEST_USER","password":"$TEST_PASSWORD"}' \\
    $url/api/login | sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/'); echo "\$TOKEN"

  # a call that needs the access token
  curl -sS -w '\\n' -H "Authorization: Bearer \$TOKEN" $url/api/protected

  # a socket, for three seconds: the upgrade and the first message (or: websocat "ws${url#http}/ws?token=\$TOKEN")
  curl -s -i -N --http1.1 --max-time 3 --output - -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: Z2F0ZWZvbGQtZXhhbXBsZQ==' "$url/ws?token=\$TOKEN"

  # the next access token, and the next refresh token in the jar
  curl -sS -w '\\n' -b cookies.txt -c cookies.txt -X POST $url/api/refresh

  # log out
  curl -sS -w '\\n' -b cookies.txt -c cookies.txt -X POST $url/api/logout

  # is it alive, is it ready?
  curl -sS -w '\\n' $url/api/health
  curl -sS -w '\\n' $url/api/ready

Then: ./start.sh status, ./start.sh logs [NAME], ./start.sh user add -- alice, ./start.sh stop
TEXT
}

# All keys, or none: making the missing ones anew would not fit what the others have signed.
make_keys() {
    local key missing=()
    for key in private.pem public.pem refresh.key; do
        [[ -e keys/$key ]] || missing+=("keys/$key")
    done
    case ${#missing[@]} in
        0) ;;
        3)
            say 'Making keys'
            ./generate-keys.sh
            ;;
        *) fail "missing: ${missing[*]}. Restore it, or make all keys anew, which logs everybody out:" \
            './generate-keys.sh --force' ;;
    esac
}

# What was started before, in whichever way, is left as it is.
start() {
    local state
    if state=$(running); then
        say 'It was running already, and listens where it did.'
        add_local_test_user "$state"
        explain "$(url_of "$state" '')"
    elif with_docker; then
        start_containers
    else
        say_why_without_docker
        start_processes
    fi
}

start_containers() {
    local url started=$SECONDS
    url=$(compose_up)
    add_test_user docker compose exec -T api /bin/gatefold-api
    say "Ready after $((SECONDS - started)) s"
    explain "$url"
}

# administer_local STATE COMMAND…: runs a command of gatefold-api with the stores of this machine's processes.
administer_local() {
    DATABASE_URL=$(url_of "$1" postgres) REDIS_URL=$(url_of "$1" redis) "$API" "${@:2}"
}

add_local_test_user() {
    add_test_user administer_local "$1"
}

administer() {
    local state
    if composed; then
        administer_composed "$@"
    elif state=$(running); then
        administer_local "$state" "$@"
    else
        fail 'Gatefold is not running here: ./start.sh starts it.'
    fi
}

start_processes() {
    local state started=$SECONDS
    # What still runs of a cluster may be what has its port.
    # shellcheck disable=SC2086 # 80 8080 are two
    "$CLUSTER" status >/dev/null 2>&1 || need_a_port ${HTTP_PORT:-80 8080}
    # shellcheck disable=SC2119 # none of this script's own arguments
    need_programs
    need_redis_7
    need_rust

    say 'Building (the first time takes several minutes)'
    cargo build --release --locked --bins

    make_keys

    local port=(--port "${HTTP_PORT:-80}")
    [[ -n ${HTTP_PORT-} ]] || port+=(--or-port 8080)
    [[ -z ${HTTP_ADDRESS-} ]] || port+=(--address "$HTTP_ADDRESS")
    say 'Starting the cluster'
    "$CLUSTER" up --api "${API_REPLICAS:-2}" --ws "${WS_REPLICAS:-2}" "${port[@]}" </dev/null ||
        fail 'the cluster did not start; the reason is above, and more is in ./start.sh logs.' \
            'If it is the port, what chooses another is HTTP_PORT, in the environment or in .env, and not --port.'
    state=$(running) || fail 'the cluster has started but not all of it is running: see ./start.sh status'

    add_local_test_user "$state"
    say "Ready after $((SECONDS - started)) s"
    explain "$(url_of "$state" '')"
}

# Any other command is the cluster's own. Before anything is built, it is answered as of a cluster that was never started.
cluster() {
    [[ ! -x $CLUSTER ]] || exec "$CLUSTER" "$@"
    case "$*" in
        down) say 'Nothing was started here.' ;;
        status)
            say 'Nothing was started here.'
            exit 3
            ;;
        'status --json')
            printf '{\n  "url": null,\n  "processes": []\n}\n'
            exit 3
            ;;
        *) fail 'nothing has been built here yet: run ./start.sh first.' ;;
    esac
}

case ${1-} in
    stop | status | logs)
        if composed; then
            compose_command "$@"
            exit
        fi
        ;;
esac

case ${1-} in
    '' | start)
        (($# < 2)) || fail "unexpected argument: $2"
        start
        ;;
    stop) cluster down "${@:2}" ;;
    status | logs) cluster "$@" ;;
    user | session | room | audit | keys) administer "$@" ;;
    -h | --help | help) usage ;;
    *)
        usage >&2
        fail "unknown command: $1"
        ;;
esac
