#!/usr/bin/env bash
# Tests what start.sh decides before anything is started: with Docker or without, which Compose project and which port.
# `docker`, `cargo` and gatefold-cluster are programs here that only note how they were called. Part of test.sh.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir -p "$work/bin" "$work/target/release"
export CALLS=$work/calls CARGO_TARGET_DIR=$work/target
PATH=$work/bin:$PATH
unset COMPOSE_PROJECT_NAME COMPOSE_DISABLE_ENV_FILE STARTED VOLUMES HTTP_PORT HTTP_ADDRESS HTTP_ADDRESS_IPV6 API_REPLICAS WITHOUT_DOCKER

# STARTED are project and folder of a stack of a plain `docker compose up`, VOLUMES the project of volumes without containers.
# EDGE_OF_NGINX and EDGE_OF_FILES are what containers, running or not, and the files say, EDGE_OF_VOLUME that the step `keys` refuses, NCPU is how many processors the engine has, COMPOSED says that containers are there, ENGINE and COMPOSE are their versions, NO_ENGINE is an error, PUBLISHED the port of an Nginx that runs.
cat >"$work/bin/docker" <<'SH'
#!/bin/sh
echo "${COMPOSE_PROJECT_NAME-} ${HTTP_PORT-} ${API_REPLICAS-} $*" >>"$CALLS"
case "$*" in
    version*) [ -z "${NO_ENGINE-}" ] && echo "${ENGINE-1.44}" || { echo; echo "$NO_ENGINE" >&2; exit 1; } ;;
    'compose version'*) echo "${COMPOSE-2.24.0}" ;;
    info*NCPU*) echo "${NCPU-8}" ;;
    info*) echo "[name=seccomp,profile=builtin${SECURITY-}]" ;;
    ps*"project=${STARTED%% *} "*working_dir*) echo "${STARTED#* }" ;;
    ps*"project=${STARTED%% *}") echo container ;;
    'volume ls'*"project=${VOLUMES-none}" | 'volume ls'*"project=${VOLUMES-none} "*) echo volume ;;
    'compose exec'*'room list'*) [ -n "${TEST_USER_EXISTS-}" ] ;;
    'compose ps --all --quiet nginx keys') echo container ;;
    inspect*container) printf 'PATH=/bin\nEDGE=%s\n' "${EDGE_OF_NGINX-plain}" ;;
    'compose run'*keys) [ -z "${EDGE_OF_VOLUME-}" ] || { echo 'This cluster serves https' >&2; exit 1; } ;;
    'compose config')
        echo "      EDGE: ${EDGE_OF_FILES-plain}"
        printf "        host_ip: '%s'\n" $(printf '%s\n' "${HTTP_ADDRESS-}" "${HTTP_ADDRESS_IPV6-}" | tr -d '[]')
        [ -z "${IPV6-}" ] || echo '    enable_ipv6: true'
        ;;
    'compose exec'*) cat >/dev/null ;;
    'compose ps'*) [ -z "${COMPOSED-}" ] || echo container ;;
    'compose config --services'*) printf 'api\nws\n' ;;
    'compose port'*) [ -n "${PUBLISHED-}" ] && echo "0.0.0.0:$PUBLISHED" ;;
esac
SH
cat >"$work/target/release/gatefold-cluster" <<'SH'
#!/bin/sh
echo "cluster $*" >>"$CALLS"
[ "$1" != up ] || : >"$CALLS.running"
[ -e "$CALLS.running" ] || exit 3
printf '{"url": "http://localhost", "processes": [{"kind": "postgres", "url": "postgres://", "state": "running"}]}\n'
SH
printf '#!/bin/sh\n' >"$work/bin/cargo"
cat >"$work/target/release/gatefold-api" <<'SH'
#!/bin/sh
echo "api $*" >>"$CALLS"
case "$*" in
    'room list'*) [ -n "${TEST_USER_EXISTS-}" ] ;;
    *) cat >/dev/null ;;
esac
SH
chmod +x "$work"/bin/* "$work"/target/release/*

clone() {
    mkdir -p "$1/keys"
    cp -r start.sh scripts docker-compose.yml generate-keys.sh "$1/"
    touch "$1"/keys/{private.pem,public.pem,refresh.key}
}

# start FOLDER [NAME=VALUE…]: how the containers were started: project, port, replicas.
start() {
    local folder=$1
    shift
    : >"$CALLS"
    rm -f "$CALLS.running"
    env HOME="$work" "$@" "$folder/start.sh" >"$work/output" 2>&1 || fail "$folder: $(<"$work/output")"
    sed -n 's/ compose up .*//p' "$CALLS"
}

# refused FOLDER MESSAGE COMMAND [NAME=VALUE…]: start.sh fails with that message, and starts nothing.
refused() {
    local folder=$1 message=$2 command=$3
    shift 3
    : >"$CALLS"
    rm -f "$CALLS.running"
    ! env HOME="$work" "$@" "$folder/start.sh" ${command:+"$command"} >"$work/output" 2>&1 || fail "not refused: $message"
    grep -qF -- "$message" "$work/output" || fail "'$message' is not said: $(<"$work/output")"
    ! grep -q ' up ' "$CALLS" || fail "started, although: $message"
}

# is WHAT ACTUAL EXPECTED
is() {
    [[ $2 == "$3" ]] || fail "$1: '$2' and not '$3'"
}

clone "$work/one/gatefold"
clone "$work/other/gatefold"
one=$(start "$work/one/gatefold" HTTP_PORT=1)
other=$(start "$work/other/gatefold" HTTP_PORT=1)
[[ $one =~ ^gatefold-[0-9a-f]{8}\ 1\ $ ]] || fail "an unexpected project: '$one'"
[[ $one != "$other" ]] || fail "two clones share the project $one"
is 'a second start' "$(start "$work/one/gatefold" HTTP_PORT=1)" "$one"
is 'what docker compose itself reads' "$(grep '^COMPOSE' "$work/one/gatefold/.env")" "COMPOSE_PROJECT_NAME=${one% 1 }"
is 'a project from the environment' "$(start "$work/one/gatefold" HTTP_PORT=1 COMPOSE_PROJECT_NAME=mine)" 'mine 1 '
is 'and the next start' "$(start "$work/one/gatefold" HTTP_PORT=1)" "$one"

cp -r "$work/one/gatefold" "$work/copy"
copied=$(start "$work/copy" HTTP_PORT=1)
[[ $copied != "$one" ]] || fail 'a copy shares the project of its original'
mv "$work/other/gatefold" "$work/moved"
is 'a clone that was moved' "$(start "$work/moved" HTTP_PORT=1)" "$other"
echo 'COMPOSE_PROJECT_NAME=written' >"$work/moved/.env"
is 'a project of .env' "$(start "$work/moved" HTTP_PORT=1)" 'written 1 '
"$work/moved/start.sh" status >/dev/null || true # nothing runs
grep -q '^written .* compose ps' "$CALLS" || fail 'status asks about another project'

printf '# ports\nHTTP_PORT=81 # for now\nexport API_REPLICAS="3"\n' >>"$work/moved/.env"
is 'the port of .env' "$(start "$work/moved")" 'written 81 3'
grep -q 'http://localhost:81/' "$work/output" || fail 'the address that is shown has another port'
is 'a port from the environment' "$(start "$work/moved" HTTP_PORT=82)" 'written 82 3'

start "$work/moved" WITHOUT_DOCKER=1
grep -q 'cluster up --api 3 --ws 2 --port 81$' "$CALLS" || fail "without containers: $(<"$CALLS")"
start "$work/moved" WITHOUT_DOCKER=1 HTTP_PORT=82
grep -q 'cluster up --api 3 --ws 2 --port 82$' "$CALLS" || fail "without containers: $(<"$CALLS")"
start "$work/one/gatefold" WITHOUT_DOCKER=1
grep -q 'cluster up --api 2 --ws 2 --port 80 --or-port 8080$' "$CALLS" || fail "without containers: $(<"$CALLS")"

# Compose calls a project after its folder. One that was started there is gone on with; one of another folder is not.
clone "$work/Plain.Folder_1"
is 'a stack of docker compose' "$(start "$work/Plain.Folder_1" HTTP_PORT=1 STARTED="plainfolder_1 $work/Plain.Folder_1")" 'plainfolder_1 1 '
is 'the same afterwards' "$(start "$work/Plain.Folder_1" HTTP_PORT=1)" 'plainfolder_1 1 '
is 'its project in .env' "$(grep '^COMPOSE' "$work/Plain.Folder_1/.env")" 'COMPOSE_PROJECT_NAME=plainfolder_1'
clone "$work/second/gatefold"
is 'a stack of another folder' "$(start "$work/second/gatefold" HTTP_PORT=1 STARTED="gatefold $work/one/gatefold" VOLUMES=gatefold)" \
    "gatefold-$(printf '%s' "$work/second/gatefold" | sha256sum | cut -c 1-8) 1 "
clone "$work/third/gatefold"
third=gatefold-$(printf '%s' "$work/third/gatefold" | sha256sum | cut -c 1-8)
refused "$work/third/gatefold" 'echo COMPOSE_PROJECT_NAME=gatefold >>.env' '' HTTP_PORT=1 VOLUMES=gatefold
grep -qF "echo COMPOSE_PROJECT_NAME=$third >>.env" "$work/output" || fail "no way to begin: $(<"$work/output")"
is 'volumes of its own' "$(start "$work/third/gatefold" HTTP_PORT=1 VOLUMES="$third")" "$third 1 "
STARTED="plainfolder_1 $work/Plain.Folder_1" "$work/Plain.Folder_1/start.sh" status >/dev/null || true # nothing runs
grep -q '^plainfolder_1 .* compose ps' "$CALLS" || fail "status asks about another project: $(<"$CALLS")"
echo 'start.sh: goes on with what docker compose has started'

# For others only where that was asked for, and then without the account whose password is in this repository.
accounts() { grep -c 'user add' "$CALLS" || true; }
for without in '' 1; do
    clone "$work/address$without"
    for address in '' 127.0.0.1 '[::1]'; do
        start "$work/address$without" HTTP_PORT=1 HTTP_ADDRESS="$address" WITHOUT_DOCKER="$without" >/dev/null
        is "accounts made on '$address'" "$(accounts)" 1
        grep -q 'from this machine only; HTTP_ADDRESS=0.0.0.0' "$work/output" || fail "not said: $(<"$work/output")"
        [[ -n $address ]] || ! grep -q -e '--address' "$CALLS" || fail "an address that nobody asked for: $(<"$CALLS")"
    done
    start "$work/address$without" HTTP_PORT=1 HTTP_ADDRESS=0.0.0.0 WITHOUT_DOCKER="$without" >/dev/null
    is 'accounts made in public' "$(accounts)" 0
    grep -q 'from others, too (HTTP_ADDRESS=0.0.0.0)' "$work/output" || fail "not said: $(<"$work/output")"
    ! grep -q '^warning:' "$work/output" || fail "a warning without a reason: $(<"$work/output")"
    [[ -z $without ]] || grep -q -e '--address 0.0.0.0$' "$CALLS" || fail "not the address that was asked for: $(<"$CALLS")"
    start "$work/address$without" HTTP_PORT=1 HTTP_ADDRESS=0.0.0.0 WITHOUT_DOCKER="$without" TEST_USER_EXISTS=1 >/dev/null
    grep -q '^warning: the test account testuser is there' "$work/output" || fail "no warning: $(<"$work/output")"
done
start "$work/address" HTTP_PORT=1 HTTP_ADDRESS=192.0.2.1 >/dev/null
grep -q 'http://192.0.2.1:1/' "$work/output" || fail "another address is shown: $(<"$work/output")"
start "$work/address" HTTP_PORT=1 HTTP_ADDRESS_IPV6='[::1]' >/dev/null
is "accounts made on [::1]" "$(accounts)" 1
echo 'start.sh: for this machine only, unless it is told otherwise'

clone "$work/ipv6"
for address in HTTP_ADDRESS HTTP_ADDRESS_IPV6; do
    for published in '[::]' '[2001:db8::1]'; do
        refused "$work/ipv6" 'COMPOSE_FILE=docker-compose.yml:docker-compose.ipv6.yml' '' HTTP_PORT=1 $address="$published"
    done
    refused "$work/ipv6" 'needs a Docker engine of version 27' '' HTTP_PORT=1 $address='[::]' IPV6=1 ENGINE=1.45
    [[ $(start "$work/ipv6" HTTP_PORT=1 $address='[::]' IPV6=1 ENGINE=1.46) ]] || fail "IPv6: $(<"$work/output")"
    is "accounts made on IPv6" "$(accounts)" 0
    grep -qF "$address=[::]" "$work/output" || fail "not said: $(<"$work/output")"
done
start "$work/ipv6" HTTP_PORT=1 HTTP_ADDRESS=0.0.0.0 SECURITY=,name=rootless >/dev/null
grep -q '^warning: the Docker engine is rootless' "$work/output" || fail "no warning: $(<"$work/output")"
start "$work/ipv6" HTTP_PORT=1 HTTP_ADDRESS= SECURITY=,name=rootless >/dev/null
! grep -q '^warning:' "$work/output" || fail "a warning without a reason: $(<"$work/output")"
echo 'start.sh: IPv6 only where clients keep their addresses'

echo 'start.sh: a project for each clone, and the port that was asked for'

clone "$work/env"
echo 'export COMPOSE_PROJECT_NAME="quoted" # ours' >"$work/env/.env"
is 'a project in quotes' "$(start "$work/env" HTTP_PORT=1)" 'quoted 1 '
printf 'HTTP_PORT=81\nHTTP_PORT=82\nAPI_REPLICAS=3' >"$work/env/.env"
[[ $(start "$work/env") == *' 82 3' ]] || fail "the last line of a name does not count: $(<"$CALLS")"
grep -qx 'API_REPLICAS=3' "$work/env/.env" || fail "a line was written to: $(<"$work/env/.env")"

clone "$work/port"
[[ $(start "$work/port" PUBLISHED=4711) == *' 4711 ' ]] || fail "not the port that is in use: $(<"$CALLS")"
[[ $(start "$work/port") == *' 4711 ' ]] || fail "the port is forgotten: $(<"$work/port/.env")"
[[ $(start "$work/port" HTTP_PORT=1) == *' 1 ' ]] || fail 'a port that was noted is stronger than one that is asked for'
is 'the port for docker compose' "$(grep '^HTTP_PORT' "$work/port/.env")" 'HTTP_PORT=4711'
cp -r "$work/port" "$work/port-copy"
start "$work/port-copy" HTTP_PORT=1 >/dev/null
! grep -q '^HTTP_PORT' "$work/port-copy/.env" || fail 'a copy has the port of its original'
clone "$work/rootless"
if (($(</proc/sys/net/ipv4/ip_unprivileged_port_start) > 80)) && ! taken 8080; then
    [[ $(start "$work/rootless" SECURITY=,name=rootless) == *' 8080 ' ]] || fail "port 80 without root: $(<"$CALLS")"
fi
echo 'start.sh: the port that was chosen is remembered'

clone "$work/single"
[[ $(start "$work/single" HTTP_PORT=1 NCPU=1) ]] || fail "one processor: $(<"$work/output")"
is 'processors' "$(grep -c '_CPUS=1$' "$work/single/.env")" 4
[[ $(start "$work/single" HTTP_PORT=1 NCPU=1) ]] || fail "one processor, again: $(<"$work/output")"
is 'processors, noted once' "$(grep -c '_CPUS=1$' "$work/single/.env")" 4
refused "$work/one/gatefold" 'API_CPUS=4, but the Docker engine has 2' '' HTTP_PORT=1 NCPU=2 API_CPUS=4
! grep -q 'compose build' "$CALLS" || fail 'built before it is known that nothing can run'
echo 'start.sh: no container asks for more processors than there are'

clone "$work/https"
refused "$work/https" 'COMPOSE_FILE=docker-compose.yml:docker-compose.tls.yml' '' HTTP_PORT=1 EDGE_OF_NGINX=tls
[[ $(start "$work/https" HTTP_PORT=1 EDGE_OF_NGINX=tls EDGE_OF_FILES=tls) ]] || fail "https: $(<"$work/output")"
grep -q 'https://localhost/' "$work/output" || fail "another address is shown: $(<"$work/output")"
[[ $(start "$work/https" HTTP_PORT=1 EDGE_OF_NGINX=tls GIVE_UP_HTTPS=1) ]] || fail "giving up https: $(<"$work/output")"
refused "$work/https" 'Put EDGE, EDGE_TRUSTED_PROXIES' '' HTTP_PORT=1 EDGE_OF_NGINX=proxied
[[ $(start "$work/https" HTTP_PORT=1 EDGE_OF_NGINX=proxied EDGE_OF_FILES=proxied) ]] || fail "proxied: $(<"$work/output")"
[[ $(start "$work/https" HTTP_PORT=1 EDGE_OF_NGINX=proxied GIVE_UP_HTTPS=1) ]] || fail "giving up https: $(<"$work/output")"
for service in api ws nginx; do
    for edge in EDGE_OF_NGINX=tls EDGE_OF_NGINX=proxied EDGE_OF_VOLUME=1; do
        : >"$CALLS"
        ! env HOME="$work" "$edge" "$work/https/scripts/roll-containers.sh" "$service" >"$work/output" 2>&1 ||
            fail "roll-containers.sh takes https away from $service, although $edge"
        ! grep -q ' up ' "$CALLS" || fail "$service was replaced, although $edge"
        grep -qE 'serves https|ends TLS' "$work/output" || fail "not said: $(<"$work/output")"
    done
done
echo 'start.sh: https is not lost by the way'

# Where nothing was started before, what cannot be used is said and done without; where something was, it is an error.
clone "$work/no-docker"
without_docker() {
    local unusable=$1
    shift
    start "$work/no-docker" HTTP_PORT=1 "$@"
    grep -q 'cluster up' "$CALLS" || fail "not without Docker: $(<"$CALLS")"
    grep -qF "$unusable" "$work/output" || fail "'$unusable' is not said: $(<"$work/output")"
    refused "$work/one/gatefold" "$unusable" '' HTTP_PORT=1 "$@"
}
without_docker 'permission denied' NO_ENGINE='permission denied'
without_docker '25 is needed' ENGINE=1.43
without_docker '2.24 is needed' COMPOSE=2.23.3
without_docker '2.24 is needed' COMPOSE=v2.9.0
for command in start stop status logs; do
    refused "$work/one/gatefold" 'WITHOUT_DOCKER=1 ./start.sh' "$command" NO_ENGINE='Is the docker daemon running?'
done
[[ $(start "$work/one/gatefold" HTTP_PORT=1 ENGINE=1.51 COMPOSE=v5.0.1) ]] || fail "newer versions: $(<"$work/output")"
echo 'start.sh: an engine that cannot be used is not taken for none'

: >"$work/listener"
openssl s_server -www -nocert -accept 127.0.0.1:0 </dev/null >"$work/listener" 2>&1 &
listener=$!
trap 'kill "$listener"; rm -rf -- "$work"' EXIT
for _ in {1..50}; do
    port=$(sed -n 's/^ACCEPT.*://p' "$work/listener")
    [[ -z $port ]] || break
    sleep 0.1
done
refused "$work/no-docker" "port $port. HTTP_PORT" '' WITHOUT_DOCKER=1 HTTP_PORT="$port"
echo 'start.sh: a port that is taken is known before anything is built'

# in_cluster FOLDER NAME=VALUE COMMAND…: what was called for one of the commands of gatefold-api.
in_cluster() {
    local folder=$1 variable=$2
    shift 2
    : >"$CALLS"
    env HOME="$work" "$variable" "$folder/start.sh" "$@" >"$work/output" 2>&1 </dev/null || fail "$*: $(<"$work/output")"
}
in_cluster "$work/one/gatefold" COMPOSED=1 user list
grep -q 'compose exec -T api /bin/gatefold-api user list$' "$CALLS" || fail "not in a container: $(<"$CALLS")"
in_cluster "$work/one/gatefold" COMPOSED=1 user delete --yes -- alice
grep -q 'compose run --rm -T migrate user delete --yes -- alice$' "$CALLS" || fail "not as the owner: $(<"$CALLS")"
start "$work/no-docker" WITHOUT_DOCKER=1 HTTP_PORT=1
in_cluster "$work/no-docker" WITHOUT_DOCKER=1 session list -- alice
grep -q '^api session list -- alice$' "$CALLS" || fail "not with the stores of this machine: $(<"$CALLS")"
rm "$CALLS.running"
refused "$work/no-docker" 'not running here' user WITHOUT_DOCKER=1
echo 'start.sh: the commands of gatefold-api run in the cluster'

for command in status stop; do
    : >"$CALLS"
    env HOME="$work" NO_ENGINE='permission denied' "$work/no-docker/start.sh" "$command" >"$work/output" 2>&1 || true
    ! grep -q 'Without Docker' "$work/output" || fail "told again by $command: $(<"$work/output")"
done
! env HOME="$work" COMPOSED=1 "$work/one/gatefold/start.sh" logs nobody >"$work/output" 2>&1 || fail 'logs of nobody'
grep -q 'no service nobody' "$work/output" || fail "not said: $(<"$work/output")"
env HOME="$work" COMPOSED=1 "$work/one/gatefold/start.sh" logs api >/dev/null || fail 'no logs of api'
echo 'start.sh: each thing is said once, and logs of nobody are an error'
