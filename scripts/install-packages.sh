#!/usr/bin/env bash
# Installs Debian packages without letting any of them start a service. Must be root.
#
# Debian starts a service as soon as its package is installed: Nginx would take port 80, Redis 6379 and Postgres 5432.
# A cluster runs private ones of its own, so the services stay stopped, and disabled at boot.
# Services of packages that were installed before are left as they are.
set -Eeuo pipefail

readonly POLICY=/usr/sbin/policy-rc.d
readonly NO_DATABASE=/etc/postgresql-common/createcluster.d/zz-gatefold.conf
readonly MARK='# Put here by scripts/install-packages.sh for the time of an installation.'

(($#)) || {
    echo 'Usage: scripts/install-packages.sh PACKAGE…' >&2
    exit 64
}
((EUID == 0)) || {
    echo 'scripts/install-packages.sh: needs root' >&2
    exit 1
}

# One at a time: a second one would find the first one's policy and lose it half-way.
exec 9>/run/lock/gatefold-install-packages
flock 9

clean_up() {
    local file
    for file in "$POLICY" "$NO_DATABASE"; do
        if grep -qsxF "$MARK" "$file"; then
            rm -f "$file"
        fi
    done
}
trap clean_up EXIT
clean_up # what one that was killed has left

if [[ ! -e $POLICY ]]; then
    printf '%s\n' '#!/bin/sh' "$MARK" 'exit 101' >"$POLICY"
    chmod 755 "$POLICY"
fi
mkdir -p "${NO_DATABASE%/*}"
printf '%s\n' "$MARK" 'create_main_cluster = false' >"$NO_DATABASE"

services=()
for package in "$@"; do
    case $package in
        nginx | redis-server | postgresql)
            [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || services+=("$package")
            ;;
    esac
done

export DEBIAN_FRONTEND=noninteractive
readonly APT=(apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)

"${APT[@]}" update </dev/null
"${APT[@]}" install -y --no-install-recommends "$@" </dev/null

for service in "${services[@]}"; do
    update-rc.d "$service" disable >/dev/null ||
        echo "Note: $service could not be disabled at boot; see update-rc.d(8)."
done
