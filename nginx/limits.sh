#!/bin/sh
# Puts the limits that the environment asks for into a copy of this folder, in which they have their defaults. Whoever runs
# Nginx has this done before it starts: nginx/container/entrypoint.sh, and gatefold-cluster.
#
#   limits.sh FOLDER
#
#   NGINX_LIMIT_LOGIN             log-ins, registrations and changes of the password from one address, together: a rate and a
#                                 burst (30r/m:10)
#   NGINX_LIMIT_REFRESH           refreshes from one address (5r/s:60)
#   NGINX_LIMIT_API               all other calls, and new sockets, from one address (20r/s:120)
#   NGINX_LIMIT_REQUESTS_AT_ONCE  requests of one address that are under way (64)
#   NGINX_LIMIT_SOCKETS           sockets of one address (256)
#
# The replicas have limits of their own, which all of them count together: LIMIT_REFRESH_ADDRESS and LIMIT_API_ADDRESS have an
# effect up to these.
set -eu

folder=$1

fail() {
    echo "nginx: $*" >&2
    exit 64
}

# rate NAME VALUE ZONE
rate() {
    [ -n "$2" ] || return 0
    echo "$2" | grep -qxE '[1-9][0-9]{0,5}r/[sm]:[1-9][0-9]{0,5}' ||
        fail "$1: expected a rate and a burst such as 30r/m:10 (a minute) or 5r/s:60 (a second), and not '$2'"
    set_to "site/limits.conf" "zone=$3:10m rate=" "${2%:*}"
    set_to "nginx.conf" "zone=$3 burst=" "${2#*:}"
}

# number NAME VALUE ZONE
number() {
    [ -n "$2" ] || return 0
    echo "$2" | grep -qxE '[1-9][0-9]{0,5}' || fail "$1: expected a number from 1 to 999999, and not '$2'"
    set_to "nginx.conf" "limit_conn $3 " "$2"
}

# set_to FILE BEFORE VALUE
set_to() {
    grep -qF "$2" "$folder/$1" || fail "$folder/$1 has nothing like '$2'"
    sed "s|$2[0-9a-z/]*|$2$3|" "$folder/$1" >"$folder/$1.new"
    mv -f "$folder/$1.new" "$folder/$1"
}

rate NGINX_LIMIT_LOGIN "${NGINX_LIMIT_LOGIN:-}" login
rate NGINX_LIMIT_REFRESH "${NGINX_LIMIT_REFRESH:-}" refresh
rate NGINX_LIMIT_API "${NGINX_LIMIT_API:-}" requests
number NGINX_LIMIT_REQUESTS_AT_ONCE "${NGINX_LIMIT_REQUESTS_AT_ONCE:-}" requests_at_once
number NGINX_LIMIT_SOCKETS "${NGINX_LIMIT_SOCKETS:-}" sockets_at_once
