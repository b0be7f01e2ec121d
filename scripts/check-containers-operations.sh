# shellcheck shell=bash
# shellcheck disable=SC2154 # what it uses is of the script that sources it
# What scripts/check-containers.sh does last with its containers, which sources this: IPv6, https that is not to be lost, backup and
# restore as documented, and the end.

# IPv6: not without docker-compose.ipv6.yml, and with it each client has its own address. Two clients are in a network of their own,
# where the kernel lets this user make one.
! HTTP_ADDRESS_IPV6='[::]' docker compose up --detach --no-deps --wait --wait-timeout 10 nginx >"$work/up.log" 2>&1 ||
    fail 'published on IPv6 without IPv6'
[[ $(docker compose logs --no-log-prefix nginx) == *'add docker-compose.ipv6.yml'* ]] || fail 'not said what IPv6 needs'
if ip netns add "$COMPOSE_PROJECT_NAME" 2>/dev/null; then
    namespace=$COMPOSE_PROJECT_NAME
    COMPOSE_FILE=docker-compose.yml:docker-compose.ipv6.yml HTTP_ADDRESS=127.0.0.1 HTTP_ADDRESS_IPV6='[::]' \
        docker compose up --detach --wait --wait-timeout 180 >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
    ip link add "gf$$" type veth peer name clients netns "$namespace"
    ip address add 2001:db8:67:66::1/64 dev "gf$$" nodad
    ip link set "gf$$" up
    ip -n "$namespace" link set clients up
    ip -n "$namespace" route add default via 2001:db8:67:66::1 dev clients onlink
    for address in 2001:db8:67:66::2 2001:db8:67:66::3; do
        ip -n "$namespace" address add "$address/64" dev clients nodad
        for _ in {1..50}; do
            ! ip netns exec "$namespace" curl -sS -o /dev/null --max-time 2 --interface "$address" \
                "http://[2001:db8:67:66::1]:$HTTP_PORT/api/health" 2>"$work/curl.log" || break
            sleep 0.1
        done
        for _ in {1..20}; do
            [[ $(docker compose logs --no-log-prefix nginx) != *"\"client.ip\":\"$address\""* ]] || continue 2
            sleep 0.1
        done
        fail "Nginx does not see the address $address: $(<"$work/curl.log")"
    done
    echo 'IPv6: each client has its own address'
else
    echo 'IPv6: not tested, since this user may make no network'
fi
docker compose up --detach --wait --wait-timeout 180 >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"

# Behind a proxy with TLS, and then started without its settings, while Nginx is stopped and when it is gone.
EDGE=proxied EDGE_TRUSTED_PROXIES=10.1.0.0/16 COOKIE_SECURE=true docker compose up --detach --wait --wait-timeout 180 \
    >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
docker compose stop nginx >/dev/null 2>&1
refuses_plain_http() {
    local service
    for service in api ws nginx; do
        ! scripts/roll-containers.sh "$service" >"$work/roll.log" 2>&1 || fail "roll-containers.sh takes https away from $service"
        grep -q GIVE_UP_HTTPS "$work/roll.log" || fail "roll-containers.sh: $(<"$work/roll.log")"
    done
}
refuses_plain_http
docker compose rm --force --stop nginx keys >/dev/null 2>&1
refuses_plain_http
! docker compose up --detach --wait --wait-timeout 180 >"$work/up.log" 2>&1 || fail 'docker compose up takes https away'
! curl -sS -o /dev/null "$URL/health" 2>/dev/null || fail 'plain http is served where https was'
GIVE_UP_HTTPS=1 docker compose up --detach --wait --wait-timeout 180 >"$work/up.log" 2>&1 || fail "$(tail -n 5 "$work/up.log")"
log_in
echo 'https: not lost unasked, also while Nginx is stopped'

# documented TEXT: the first indented block after a piece of text in docs/operations.md.
documented() {
    local block
    block=$(awk -v text="$1" 'found && /^    /{ print substr($0, 5); begun = 1; next } begun { exit } index($0, text) { found = 1 }' docs/operations.md)
    [[ -n $block ]] || fail "docs/operations.md has no commands after '$1'"
    printf '%s\n' "$block"
}
# Runs such a block, in a folder of its own.
run_documented() {
    local block root=$PWD
    block=$(documented "$1")
    (cd "$work" && COMPOSE_FILE=$root/docker-compose.yml timeout 300 bash -euo pipefail -c "$block") >"$work/documented.log" 2>&1 ||
        fail "the documented commands after '$1': $(<"$work/documented.log")"
}
run_documented '### In Compose'
printf '%s\n' "$PASSWORD" | docker compose exec -T api /bin/gatefold-api user add -- later
docker compose down --volumes >"$work/down.log" 2>&1 || fail "$(tail -n 5 "$work/down.log")"
# Only the keys of the copy may be found.
rm -- "$KEYS_DIR"/*
run_documented '**the secrets**'
run_documented "**Redis's file**"
run_documented '**The database**'
greeted 'a call with a token of before'
expect 'a refresh of a session of before' 200 -b "$work/cookies" -c "$work/cookies" -X POST "$URL/api/refresh"
expect 'a log-in after the copy' 401 -H 'Content-Type: application/json' \
    -d "{\"username\":\"later\",\"password\":\"$PASSWORD\"}" "$URL/api/login"
log_in
echo 'backup and restore, as documented: the same accounts, sessions and keys'

: >"$work/codes"
python3 scripts/close_codes.py "$URL/ws?token=$token" 6 >"$work/codes" 2>&1 &
sockets=$!
for _ in {1..50}; do
    ! grep -q open "$work/codes" || break
    sleep 0.1
done
docker compose down >"$work/down.log" 2>&1 || fail "$(tail -n 5 "$work/down.log")"
wait "$sockets" || fail "sockets: $(<"$work/codes")"
[[ $(sort "$work/codes" | uniq -c | xargs) == '6 1012 1 open' ]] || fail "codes of sockets at the end: $(xargs <"$work/codes")"
echo 'docker compose down: sockets are told to come back'
