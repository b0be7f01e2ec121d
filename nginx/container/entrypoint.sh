#!/bin/sh
# Starts Nginx in a container: puts site/ together from what the environment says, in the one place that can be written
# to, starts gatefold-edge, which finds the replicas and counts requests, and becomes Nginx.
#
#   EDGE             plain (http), tls (https, and http redirected), or proxied (behind a proxy that ends TLS)
#   API_ADDRESS      name and port of the REST replicas (api:3000)
#   WS_ADDRESS       name and port of the WebSocket replicas (ws:3001)
#   READY_INTERVAL   how often each of them is asked whether it is ready (1s)
#   READY_TIMEOUT    one that does not answer for so long hangs, and is left out (2s)
#   METRICS_PORT     for Prometheus (9102)
#   LOG_LEVEL        of gatefold-edge (info)
#   TRUSTED_PROXIES  proxied: networks (CIDR, separated by commas or spaces) of the proxies before this one, and of nobody else;
#                    at most a /16, or /32 of IPv6
#   TLS_CERTIFICATE, TLS_KEY   tls: PEM files, the chain and its key (/etc/gatefold/tls/{fullchain,privkey}.pem)
#   ACME_ROOT        tls: what is below its .well-known/acme-challenge/ is served over http (/etc/gatefold/acme)
#   HTTPS_PORT       tls: the port of https as clients see it (443)
#   PUBLISHED_ON     addresses of the machine on which Docker publishes the ports (none)
#   WORKER_CONNECTIONS  connections that each worker may hold (32768): two for a socket, two for a request
#   LIMITS           on, or off: for load tests, no address is limited (on)
#   NGINX_LIMIT_…    the limits of each address: see ../limits.sh
#   HSTS_MAX_AGE     tls, proxied: seconds for which browsers come by https only; 0 forgets it (63072000)
#
# Arguments go to Nginx: `-t` checks and ends.
set -eu

fail() {
    echo "nginx: $*" >&2
    exit 64
}

source=${GATEFOLD_NGINX:-/etc/gatefold/nginx}
prefix=${GATEFOLD_PREFIX:-/run/gatefold}
edge=${EDGE:-plain}

# What ends up in the configuration must be what it is taken for, and no directive.
address() {
    case $2 in
        '' | *[!a-zA-Z0-9.:_-]*) fail "$1: expected a name and a port, and not '$2'" ;;
        *:[0-9]*) ;;
        *) fail "$1: expected a name and a port, and not '$2'" ;;
    esac
}
number() {
    case $2 in '' | *[!0-9]*) fail "$1: expected a number, and not '$2'" ;; esac
}
path() {
    case $2 in /*) ;; *) fail "$1: expected an absolute path, and not '$2'" ;; esac
    case $2 in *[!a-zA-Z0-9._/-]*) fail "$1: a path with unusual characters: '$2'" ;; esac
    [ -r "$2" ] || fail "$1: $2 cannot be read by $(id -u):$(id -g)"
}

# The network of a proxy. Whoever else is in it can claim any address, so that whole private networks are refused; and so are
# those of examples, which somebody forgot to replace.
network() {
    widest=none longest=''
    case $1 in
        192.0.2.* | 198.51.100.* | 203.0.113.* | 2001:[dD][bB]8:*)
            fail "TRUSTED_PROXIES: $1 is an example: name the network of the proxy before this one"
            ;;
        192.168.*/16 | *[!0-9a-fA-F.:/]*) ;;
        *:*:*) widest=32 longest=128 ;;
        *[!0-9./]*) ;;
        *.*.*.*) widest=16 longest=32 ;;
    esac
    bits=$longest
    case $1 in */*) bits=${1#*/} ;; esac
    case $bits in '' | *[!0-9]*) widest=none ;; esac
    if [ "$widest" = none ] || [ "$bits" -lt "$widest" ] || [ "$bits" -gt "$longest" ]; then
        fail "TRUSTED_PROXIES: expected the networks of proxies, each at most a /16 (IPv4) or /32 (IPv6), and not '$1'"
    fi
}

api=${API_ADDRESS:-api:3000} ws=${WS_ADDRESS:-ws:3001}
address API_ADDRESS "$api"
address WS_ADDRESS "$ws"

# Docker brings IPv6 into a network without it by a proxy of its own, so that all clients have one address, and share its limits.
for published in ${PUBLISHED_ON:-}; do
    case $published in
        '[::1]' | ::1) ;;
        *:*)
            grep -qs '^[0-9a-f]* [0-9a-f]* [0-9a-f]* 00 ' "${IF_INET6:-/proc/net/if_inet6}" ||
                fail "HTTP_ADDRESS, HTTP_ADDRESS_IPV6: published on $published, but this network has no IPv6, so that all clients would have" \
                    "one address there: add docker-compose.ipv6.yml to COMPOSE_FILE, or publish on IPv4 only"
            ;;
    esac
done

case ${LIMITS:-on} in
    on) limits=site/limits.conf ;;
    off) limits=container/limits.off.conf ;;
    *) fail "LIMITS: expected on or off, and not '$LIMITS'" ;;
esac

connections=${WORKER_CONNECTIONS:-32768}
number WORKER_CONNECTIONS "$connections"

hsts='' https_port=''
if [ "$edge" != plain ]; then
    age=${HSTS_MAX_AGE:-63072000}
    number HSTS_MAX_AGE "$age"
    hsts="max-age=$age"
fi
certificate=${TLS_CERTIFICATE:-/etc/gatefold/tls/fullchain.pem} key=${TLS_KEY:-/etc/gatefold/tls/privkey.pem}
acme=${ACME_ROOT:-/etc/gatefold/acme}
real_ip='' geo=''
case $edge in
    plain) ;;
    tls)
        path TLS_CERTIFICATE "$certificate"
        path TLS_KEY "$key"
        # It need not be there.
        case $acme in /*[!a-zA-Z0-9/._-]* | [!/]*) fail "ACME_ROOT: expected the path of a folder, and not '$acme'" ;; esac
        port=${HTTPS_PORT:-443}
        number HTTPS_PORT "$port"
        [ "$port" = 443 ] || https_port=":$port"
        ;;
    proxied)
        for network in $(echo "${TRUSTED_PROXIES:-}" | tr ',' ' '); do
            network "$network"
            real_ip="$real_ip set_real_ip_from $network;" geo="$geo $network 1;"
        done
        [ -n "$geo" ] || fail 'TRUSTED_PROXIES: EDGE=proxied needs the networks of the proxies before this one'
        ;;
    *) fail "EDGE: expected plain, tls or proxied, and not '$edge'" ;;
esac

# Where the kernel has IPv6, each port is served over it too: a line `listen 8080 …;` is repeated with `[::]:8080`.
ipv6=''
[ ! -e "${IF_INET6:-/proc/net/if_inet6}" ] || ipv6='s|^\( *listen \)\([0-9][0-9]*\)\([ ;].*\)|&\1[::]:\2\3|'

fill() {
    sed -e "$ipv6" -e "s|@API_ADDRESS@|$api|; s|@WS_ADDRESS@|$ws|; s|@PREFIX@|$prefix|" \
        -e "s|@STRICT_TRANSPORT_SECURITY@|$hsts|; s|@HTTPS_PORT@|$https_port|" \
        -e "s|@TLS_CERTIFICATE@|$certificate|; s|@TLS_KEY@|$key|; s|@ACME_ROOT@|$acme|" \
        -e "s|@SET_REAL_IP_FROM@|$real_ip|; s|@GEO@|$geo|" "$source/container/$1" >"$site/$2"
}

site=$prefix/conf/site
rm -rf "$prefix/conf"
mkdir -p "$site/servers" "$prefix/run"
cp -R "$source/snippets" "$prefix/conf/"
# As many workers as the container may use processors: `auto` would be as many as the machine has.
workers=$(nproc)
if read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max && [ "$quota" != max ]; then
    allowed=$(((quota + period - 1) / period))
    [ "$allowed" -ge "$workers" ] || workers=$allowed
fi
sed -e "s/^worker_processes auto;/worker_processes $workers;/" \
    -e "s/worker_connections [0-9]*;/worker_connections $connections;/" "$source/nginx.conf" >"$prefix/conf/nginx.conf"
cp "$source/$limits" "$site/limits.conf"
[ "${LIMITS:-on}" = off ] || "$source/limits.sh" "$prefix/conf"
fill servers/counted.conf servers/counted.conf
fill servers/status.conf servers/status.conf
fill upstreams.conf upstreams.conf
case $edge in
    plain) fill listen.conf listen.conf && fill edge.conf edge.conf ;;
    tls) fill listen.tls.conf listen.conf && fill edge.conf edge.conf && fill redirect.conf servers/redirect.conf ;;
    proxied) fill listen.conf listen.conf && fill edge.proxied.conf edge.conf ;;
esac

# Every connection is a descriptor, and engines give 1,024 of them to whom does not ask for more. The workers inherit the
# limit, so that there is no worker_rlimit_nofile; where the hard one is below WORKER_CONNECTIONS, Nginx says so in its log.
# shellcheck disable=SC3045 # the shells of Alpine and of Debian know it
ulimit -n "$(ulimit -H -n)"

# gatefold-edge, as long as this process, which becomes Nginx, is there: it is started anew if it ever ends, since without it
# Nginx finds nobody.
companion() {
    while kill -0 $$ 2>/dev/null; do
        "${GATEFOLD_EDGE:-/bin/gatefold-edge}" &
        edge=$!
        while kill -0 $edge 2>/dev/null && kill -0 $$ 2>/dev/null; do sleep 1; done
        kill $edge 2>/dev/null || :
        wait
    done
}
# A client costs two connections: its own, and one to a replica.
export API_ADDRESS="$api" WS_ADDRESS="$ws" REQUESTS_SOCKET="$prefix/run/requests.sock" NGINX_CLIENTS=$((workers * connections / 2))
[ $# -gt 0 ] || companion &

# Told to end or to read its files again, Nginx lets go of sockets after a while: it would wait for them for ever.
exec nginx -e stderr -c conf/nginx.conf -g 'daemon off; worker_shutdown_timeout 20s;' -p "$prefix" "$@"
