#!/usr/bin/env bash
# Replaces the containers of a service of docker-compose.yml by new ones, of the image and the settings that there are now,
# so that clients notice nothing: new ones first, and when they are ready, the old ones end, one after the other.
#   scripts/roll-containers.sh api|ws|nginx
# Of Nginx there is one, which has the ports: it ends, and the next one begins.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
# shellcheck source=scripts/compose.sh
source scripts/compose.sh
name_project

service=${1-}
[[ $service == api || $service == ws || $service == nginx ]] || fail 'usage: scripts/roll-containers.sh api|ws|nginx'
keep_https
keep_https_of_volume
if [[ $service == nginx ]]; then
    docker compose up --detach --no-deps --wait --wait-timeout 120 nginx
    exit
fi
mapfile -t old < <(docker compose ps --quiet "$service")
((${#old[@]})) || fail "no $service runs here: start the cluster first"

up() {
    docker compose up --detach --no-deps --no-recreate --wait --wait-timeout 120 --scale "$service=$1" "$service"
}
up $((2 * ${#old[@]}))
for container in "${old[@]}"; do
    # As long as stop_grace_period says.
    docker stop "$container" >/dev/null
    docker rm "$container" >/dev/null
done
up "${#old[@]}"
