#!/usr/bin/env bash
# Builds the images and brings docker-compose.yml up, under a name and on a port of its own; runs the end-to-end tests in it
# that otherwise have a cluster of their own, and those of the page; uses it while replicas come, go and die; and takes it
# down again. Needs a Docker engine. `./test.sh --containers` runs it.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

readonly PASSWORD=correct-horse-battery
# Nothing of .env, nobody else's images, and no limits: all clients are one address here.
export COMPOSE_PROJECT_NAME=gatefold-check-$$ COMPOSE_DISABLE_ENV_FILE=1 API_REPLICAS=2 WS_REPLICAS=2 NGINX_LIMITS=off
export LIMIT_LOGIN_ADDRESS=1000000/1s LIMIT_LOGIN_ACCOUNT=1000000/1s LIMIT_REFRESH_ADDRESS=1000000/1s
export LIMIT_REGISTER_ADDRESS=1000000/1s LIMIT_API_ADDRESS=1000000/1s
readonly IMAGES=("$COMPOSE_PROJECT_NAME"-{api,ws,nginx,keys})
work=$(mktemp -d)
HTTP_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export HTTP_PORT
readonly URL=http://localhost:$HTTP_PORT
# For the step `keys`, which takes what is there.
export KEYS_DIR=$work/keys
./generate-keys.sh --dir "$KEYS_DIR" >/dev/null

clean_up() {
    local code=$?
    ((code == 0)) || docker compose logs --tail 20 2>/dev/null || true
    docker compose -f docker-compose.yml -f docker-compose.monitoring.yml down --volumes --timeout 5 >/dev/null 2>&1 || true
    docker image rm "${IMAGES[@]}" >/dev/null 2>&1 || true
    [[ -z ${namespace-} ]] || ip netns delete "$namespace"
    rm -rf -- "$work"
}
trap clean_up EXIT

# expect WHAT STATUS CURL-ARGUMENT…: the call has that status; its body is in $work/body.
expect() {
    local what=$1 wanted=$2 status
    shift 2
    status=$(curl -sS -o "$work/body" -w '%{http_code}' "$@") || true
    [[ $status == "$wanted" ]] || fail "$what: $status and not $wanted: $(<"$work/body")"
}

log_in() {
    expect 'a log-in' 200 -c "$work/cookies" -H 'Content-Type: application/json' \
        -d "{\"username\":\"alice\",\"password\":\"$PASSWORD\"}" "$URL/api/login"
    token=$(sed 's/.*"accessToken":"\([^"]*\)".*/\1/' "$work/body")
}

greeted() {
    expect "$1" "${2:-200}" -H "Authorization: Bearer $token" "$URL/api/protected"
}

# How many replicas have served since a time.
replicas_since() {
    docker compose logs --no-log-prefix --since "$1" nginx | grep '"path":"/api/protected"' |
        grep -oE '"upstream.address":"[^"]*"' | sort -u | wc -l
}

scale() {
    docker compose up --detach --no-recreate --wait --wait-timeout 120 --scale "api=$1" --scale "ws=$2" >"$work/scale.log" 2>&1
}

# Trades the refresh token of a session of its own as long as a job runs: each answer must come, or the chain is at its end.
refresh_during() {
    local job=$1 refreshes=0
    mkdir -p "$work/chain"
    work=$work/chain
    log_in
    while kill -0 "$job" 2>/dev/null; do
        expect 'a refresh while scaling' 200 -b "$work/cookies" -c "$work/cookies" -X POST "$URL/api/refresh"
        refreshes=$((refreshes + 1))
        sleep 0.12
    done
    echo "$refreshes" >"$work/count"
}

# Calls and refreshes all the while until scaling is done. Each of them has to succeed.
call_while_scaling() {
    local calls=0 job chain
    scale "$@" &
    job=$!
    refresh_during "$job" &
    chain=$!
    while kill -0 "$job" 2>/dev/null; do
        greeted "a call while scaling to $1"
        calls=$((calls + 1))
        sleep 0.12
    done
    wait "$job" || fail "could not scale to $1: $(<"$work/scale.log")"
    wait "$chain" || fail "a refresh failed while scaling to $1"
    echo "scaled to $1 api and $2 ws replicas: $calls calls and $(<"$work/chain/count") refreshes, all served"
}

say 'Building the images'
arguments=()
for image in RUST_IMAGE DEBIAN_IMAGE NGINX_IMAGE; do
    [[ -z ${!image-} ]] || arguments+=(--build-arg "$image=${!image}")
done
docker build --check "${arguments[@]}" . >"$work/check.log" 2>&1 || fail "docker build --check: $(<"$work/check.log")"
docker compose build --quiet
size_of() { docker image inspect --format '{{.Size}}' "$1"; }
for service in api ws; do
    size=$(size_of "$COMPOSE_PROJECT_NAME-$service")
    ((size < 40000000)) || fail "the image of $service has $size bytes"
    echo "the image of $service: $((size / 1000000)) MB"
done
base=${NGINX_IMAGE:-nginx:stable-alpine-slim}
docker image inspect "$base" >/dev/null 2>&1 || docker pull --quiet "$base" >/dev/null
added=$(($(size_of "$COMPOSE_PROJECT_NAME-nginx") - $(size_of "$base")))
((added < 16000000)) || fail "to the image $base $added bytes are added"
say 'Starting the containers'
docker compose up --detach --wait --wait-timeout 180 >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
for service in api ws nginx; do
    for container in $(docker compose ps --quiet "$service"); do
        found=$(docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$container")
        [[ $found == '65532:65532 true [ALL]' ]] || fail "$service runs as $found"
    done
done
echo 'the containers: nobody is root, and no image can be written to'
running=$(docker compose ps --quiet | sort)
docker compose build --quiet
docker compose up --detach --wait --wait-timeout 180 >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
[[ $(docker compose ps --quiet | sort) == "$running" ]] || fail 'starting it a second time replaces containers'
echo 'a second start: nothing is replaced'
[[ $(docker compose logs --no-log-prefix keys) == *'Took the keys'* ]] || fail 'the keys of the host were not taken'
sql() { docker compose exec -T postgres psql -XtAc "$1" -U authuser -d authdb; }
[[ $(sql "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'gatefold-api'") == gatefold_api ]] ||
    fail 'the replicas have another role than their own'
[[ $(sql "SELECT has_table_privilege('gatefold_api', 'events', 'UPDATE, DELETE')") == f ]] || fail 'the replicas can rewrite the audit'
[[ $(docker compose exec -T redis redis-cli ping 2>&1) == NOAUTH* ]] || fail 'Redis needs no password'
[[ $(docker compose port nginx 8080) == "127.0.0.1:$HTTP_PORT" ]] || fail 'others can reach the cluster'
echo 'the stores: a role without rights over the schema, and a password of Redis'
printf '%s\n' "$PASSWORD" | docker compose exec -T api /bin/gatefold-api user add -- alice
! docker compose exec -T api /bin/gatefold-api user delete --yes -- alice </dev/null 2>"$work/delete.log" || fail 'a replica deletes users'
docker compose run --rm -T migrate audit erase --older-than 1d >"$work/erase.log" 2>&1 || fail "$(<"$work/erase.log")"

log_in
greeted 'a call'
expect 'the page' 200 "$URL/"
upgrade=$(curl -sS -i -N --http1.1 --max-time 2 -o - -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
    -H 'Sec-WebSocket-Key: Z2F0ZWZvbGQtZXhhbXBsZQ==' "$URL/ws?token=$token" 2>/dev/null | tr -d '\0' || true)
[[ $upgrade == *' 101 '* && $upgrade == *'"connected"'* ]] || fail "no socket: $upgrade"
echo 'a call, the page and a socket: served'

call_while_scaling 4 3
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
for _ in {1..40}; do
    greeted 'a call to any of four'
    sleep 0.12
done
served=$(replicas_since "$since")
((served == 4)) || fail "of four replicas $served have served"
call_while_scaling 2 2

say 'End-to-end tests'
export GATEFOLD_URL=$URL GATEFOLD_ROLL=$PWD/scripts/roll-containers.sh
cargo test --workspace --locked --test it -- end_to_end:: --test-threads 1
scripts/test-client.sh page.test.js
unset GATEFOLD_URL

read -r container < <(docker compose ps --quiet api)
docker kill --signal KILL "$container" >/dev/null
for _ in {1..40}; do
    greeted 'a call after a replica was killed'
done
docker start "$container" >/dev/null
docker compose up --detach --no-recreate --wait --wait-timeout 60 >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
echo 'a replica that was killed: nobody noticed'

# Nginx must not only ask another one when this one has not answered: it must send nothing there any more.
address=$(docker inspect --format "{{(index .NetworkSettings.Networks \"${COMPOSE_PROJECT_NAME}_front\").IPAddress}}" "$container")
docker pause "$container" >/dev/null
for _ in {1..60}; do
    [[ $(docker compose logs --no-log-prefix nginx) != *"a replica does not answer\",*\"address\":\"$address\""* ]] || break
    sleep 0.5
done
sleep 2 # for as long as Nginx may believe what it has heard
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 1
for _ in {1..40}; do
    greeted 'a call while a replica hangs'
done
sent=$(docker compose logs --no-log-prefix --since "$since" nginx | grep -c "\"upstream.address\":\"[^\"]*$address:" || true)
((sent == 0)) || fail "$sent calls were sent to a replica that hangs"
docker unpause "$container" >/dev/null
for _ in {1..60}; do # Compose gives up at once on a container that is still held to be unhealthy
    [[ $(docker inspect --format '{{.State.Health.Status}}' "$container") != healthy ]] || break
    sleep 0.5
done
docker compose up --detach --no-recreate --wait --wait-timeout 60 >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
echo 'a replica that hung: sent nothing'

PROMETHEUS_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PROMETHEUS_PORT
monitored=(docker compose -f docker-compose.yml -f docker-compose.monitoring.yml)
"${monitored[@]}" up --detach --no-recreate --wait --wait-timeout 60 prometheus >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
prometheus() { curl -sS -G "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/$1" "${@:2}" -o "$work/body" || true; }
for _ in {1..60}; do
    prometheus query --data-urlencode 'query=count by (job) (up{namespace="gatefold"} == 1)'
    [[ $(jq -c '[.data.result[] | {job: .metric.job, up: .value[1]}] | sort' "$work/body") != \
        '[{"job":"gatefold-api","up":"2"},{"job":"gatefold-nginx","up":"1"},{"job":"gatefold-ws","up":"2"}]' ]] || break
    sleep 1
done
[[ $(jq -r '[.data.result[].value[1] | tonumber] | add' "$work/body") == 5 ]] || fail "Prometheus finds: $(<"$work/body")"
prometheus rules
[[ $(jq '[.data.groups[].rules[].name] | length' "$work/body") == $(grep -c -- '- alert:' k8s/components/monitoring/prometheus-rule.yaml) ]] ||
    fail "Prometheus has other rules: $(<"$work/body")"
"${monitored[@]}" rm --stop --force --volumes prometheus >/dev/null 2>&1
echo 'Prometheus: finds all, and has the rules'

cp "$work/cookies" "$work/old"
expect 'a refresh' 200 -b "$work/cookies" -c "$work/cookies" -X POST "$URL/api/refresh"
expect 'a replay' 401 -b "$work/old" -X POST "$URL/api/refresh"
grep -q refresh_token_reused "$work/body" || fail "a replay: $(<"$work/body")"
greeted 'a call of the session that the replay has ended' 401
echo 'a refresh and a replay: as they should be'

docker compose run --rm -T keys rotate begin access >"$work/rotate.log" 2>&1 || fail "$(<"$work/rotate.log")"
for _ in {1..30}; do
    expect 'the public keys' 200 "$URL/.well-known/jwks.json"
    keys=$(grep -o '"kid"' "$work/body" | wc -l)
    ((keys < 2)) || break
    sleep 1
done
((keys == 2)) || fail 'a next key was published and no replica knows it'
echo 'a next key: known to the replicas'

docker compose pause redis >/dev/null 2>&1
expect 'a log-in without Redis' 503 -H 'Content-Type: application/json' \
    -d "{\"username\":\"alice\",\"password\":\"$PASSWORD\"}" "$URL/api/login"
docker compose unpause redis >/dev/null 2>&1
for _ in {1..30}; do
    [[ $(curl -sS "$URL/api/ready") != *'"status":"ok"'* ]] || break
    sleep 0.5
done
log_in
echo 'Redis away and back: 503, and served again'

# shellcheck source=scripts/check-containers-operations.sh
source scripts/check-containers-operations.sh
