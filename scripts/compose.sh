# shellcheck shell=bash
# The part of start.sh that runs Gatefold with Docker Compose. To be sourced after lib.sh, from the root of the repository.

# What the compose files need: `start_interval` is of engine 25, whose API is 1.44, and `!reset` of Compose 2.24.
readonly OLDEST_ENGINE_API=1.44 OLDEST_COMPOSE=2.24

# Why the `docker` of this machine cannot run docker-compose.yml; nothing where it can.
docker_problem() {
    local answer
    if ! answer=$(timeout 10 docker version --format '{{.Server.APIVersion}}' 2>&1 | grep . | tail -n 1); then
        printf 'Docker does not answer: %s' "${answer:-nothing within 10 s}"
    elif ! at_least "$answer" "$OLDEST_ENGINE_API"; then
        printf 'the Docker engine is too old: 25 is needed, with API %s; this has %s' "$OLDEST_ENGINE_API" "$answer"
    elif ! answer=$(docker compose version --short 2>/dev/null); then
        printf 'Docker is without Compose: %s is needed' "$OLDEST_COMPOSE"
    elif ! at_least "${answer#v}" "$OLDEST_COMPOSE"; then
        printf 'Docker Compose is too old: %s is needed; this is %s' "$OLDEST_COMPOSE" "${answer#v}"
    fi
}

# at_least VERSION OLDEST
at_least() { printf '%s\n' "$2" "$1" | sort --check=quiet --version-sort; }

# Whether an engine answers that can run docker-compose.yml. WITHOUT_DOCKER=1 says no.
have_docker_engine() {
    [[ -z ${WITHOUT_DOCKER-} ]] && have docker && [[ -z $(docker_problem) ]]
}

# The same, but notes why a `docker` is of no use (without_docker_because), and goes on without it only where nothing was started in containers before:
# they might run on unseen, beside a second cluster that knows none of their accounts.
with_docker() {
    local problem
    [[ -z ${WITHOUT_DOCKER-} ]] && have docker || return 1
    problem=$(docker_problem)
    [[ -n $problem ]] || return 0
    ! in_env_file COMPOSE_PROJECT_NAME ||
        fail "$problem" 'The cluster of this folder is in containers (.env names their project): mend Docker, and run again.' \
            'To do without it, and without the accounts that are there: WITHOUT_DOCKER=1 ./start.sh'
    without_docker_because=$problem
    return 1
}

# The project of a plain `docker compose` in this folder: its name, as Compose writes it.
folder_project() {
    local name=${PWD##*/}
    name=$(tr -cd 'a-z0-9_-' <<<"${name,,}")
    printf '%s' "${name#"${name%%[!_-]*}"}"
}

# Whether containers of a project are there, running or not, which were made in this folder.
made_here() {
    local folder
    [[ -n $1 && -z ${WITHOUT_DOCKER-} ]] && have docker || return 1
    while IFS= read -r folder; do
        [[ ! $folder -ef $PWD ]] || return 0
    done < <(timeout 10 docker ps --all --filter "label=com.docker.compose.project=$1" \
        --format '{{.Label "com.docker.compose.project.working_dir"}}' 2>/dev/null)
    return 1
}

# Takes over .env, and gives this clone a Compose project of its own, from its path, or else two clones in folders of one
# name would share containers and data. Where a plain `docker compose up` was first, its project is taken over instead. Once it
# was started .env holds the name, so that it means the same to `docker compose` and survives a move; a copy of the folder,
# which has a copy of .env, gets another.
readonly NOTED_IN='# made by start.sh in '
name_project() {
    local noted
    if [[ -e $ENV_FILE ]]; then
        noted=$(sed -n "s|^$NOTED_IN||p" "$ENV_FILE" | tail -n 1)
        if [[ -n $noted && $noted != "$PWD" && -e $noted/.env ]]; then
            sed -i "\|^$NOTED_IN|,+1d" "$ENV_FILE"
        fi
    fi
    load_env_file
    # A name that refers to others is left to Compose.
    if [[ -z ${COMPOSE_PROJECT_NAME-} ]] && ! in_env_file COMPOSE_PROJECT_NAME; then
        COMPOSE_PROJECT_NAME=$(folder_project)
        made_here "$COMPOSE_PROJECT_NAME" || COMPOSE_PROJECT_NAME=$(clone_project)
    fi
    export COMPOSE_PROJECT_NAME
}
clone_project() { printf 'gatefold-%s' "$(printf '%s' "$PWD" | sha256sum | cut -c 1-8)"; }

# After `docker compose down` only volumes are left of a plain `docker compose up`, which do not say in which folder it was: another
# one of the same name may be theirs. So nobody takes them over unasked, and nobody starts without them unasked.
ask_for_project() {
    local plain
    plain=$(folder_project)
    [[ $COMPOSE_PROJECT_NAME == "$(clone_project)" && -n $plain ]] && ! in_env_file COMPOSE_PROJECT_NAME || return 0
    [[ -z $(docker volume ls --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME") ]] || return 0
    [[ -n $(docker volume ls --quiet --filter "label=com.docker.compose.project=$plain" --filter label=com.docker.compose.volume=database-password) ]] || return 0
    # Of a folder elsewhere.
    [[ -z $(docker ps --all --quiet --filter "label=com.docker.compose.project=$plain") ]] || return 0
    fail "There are volumes of a cluster that a plain \`docker compose up\` has made in a folder named ${PWD##*/}: accounts, sessions and keys." \
        "If it was in this folder, and is to go on:  echo COMPOSE_PROJECT_NAME=$plain >>.env" \
        "For a cluster that is new:                  echo COMPOSE_PROJECT_NAME=$COMPOSE_PROJECT_NAME >>.env"
}

# note NAME VALUE: in .env, unless it has a value of that name.
note() {
    ! in_env_file "$1" || return 0
    # The last line may have no end.
    [[ ! -s $ENV_FILE || -z $(tail -c 1 "$ENV_FILE") ]] || echo >>"$ENV_FILE"
    printf '%s%s\n%s=%s\n' "$NOTED_IN" "$PWD" "$1" "$2" >>"$ENV_FILE"
}

# For once: not with every command.
say_why_without_docker() {
    [[ -z ${without_docker_because-} ]] || say "Without Docker, because $without_docker_because" >&2
}

# administer_composed COMMAND…: runs a command of gatefold-api in a container. What is for the owner of the schema needs another
# one than the replicas, which do not know its password.
administer_composed() {
    local tty=()
    [[ -t 0 ]] || tty=(-T)
    case "$1 ${2-}" in
        'user delete' | 'audit erase') docker compose run --rm "${tty[@]}" migrate "$@" ;;
        *) docker compose exec "${tty[@]}" api /bin/gatefold-api "$@" ;;
    esac
}

# Whether containers of this clone are there.
composed() {
    with_docker && [[ -n $(docker compose ps --quiet 2>/dev/null) ]]
}

# A rootless engine may do what its user may, to whom most systems do not give port 80.
may_publish_80() {
    [[ $(docker info --format '{{.SecurityOptions}}') != *name=rootless* ]] ||
        (($(</proc/sys/net/ipv4/ip_unprivileged_port_start) <= 80))
}

# The port of the web interface: the one asked for, the one in use by a cluster that runs already, 80, or else 8080.
compose_port() {
    local published
    if [[ -n ${HTTP_PORT-} ]]; then
        printf '%s' "$HTTP_PORT"
    elif published=$(docker compose port nginx 8080 2>/dev/null) && [[ ${published##*:} -gt 0 ]]; then
        printf '%s' "${published##*:}"
    elif may_publish_80 && ! taken 80; then
        printf 80
    else
        need_a_port 8080
        printf 8080
    fi
}

# An engine refuses a container more processors than it has, after everything was built. What nobody has chosen is made to fit.
fit_processors() {
    local there setting
    there=$(docker info --format '{{.NCPU}}') && [[ $there =~ ^[1-9][0-9]*$ ]] || return 0
    for setting in POSTGRES_CPUS API_CPUS WS_CPUS NGINX_CPUS; do
        if [[ -z ${!setting-} ]] && ((there < 2)); then
            note "$setting" "$there"
            export "$setting=$there"
        elif awk -v wanted="${!setting:-0}" -v there="$there" 'BEGIN { exit !(wanted > there) }'; then
            fail "$setting=${!setting}, but the Docker engine has $there: lower it, in the environment or in .env."
        fi
    done
}

# What `docker compose` would serve by its files (COMPOSE_FILE) and settings: plain, tls or proxied.
configured_edge() { docker compose config 2>/dev/null | sed -nE 's/^ +EDGE: "?([a-z]+)"?$/\1/p' | tail -n 1; }

# What the containers that are there serve, or would serve if they were not stopped.
served_edges() {
    local made
    mapfile -t made < <(docker compose ps --all --quiet nginx keys 2>/dev/null)
    ((${#made[@]} == 0)) ||
        docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "${made[@]}" | sed -n 's/^EDGE=//p'
}

# Without docker-compose.tls.yml, or EDGE=proxied, a cluster that serves https would be replaced, in part, by one that does not.
keep_https() {
    local served
    [[ ${GIVE_UP_HTTPS-} != 1 && $(configured_edge) == plain ]] || return 0
    served=$(served_edges)
    case $served in
        *tls*) fail 'The cluster that is here serves https, and docker-compose.tls.yml is not among the files of this command.' \
            'Put COMPOSE_FILE=docker-compose.yml:docker-compose.tls.yml into .env, and repeat it.' \
            'To serve plain http from now on: GIVE_UP_HTTPS=1' ;;
        *proxied*) fail 'The cluster that is here stands behind a proxy that ends TLS, and EDGE=proxied is not among the settings of this command.' \
            'Put EDGE, EDGE_TRUSTED_PROXIES, COOKIE_SECURE and COOKIE_NAME into .env, as they were, and repeat it.' \
            'To serve plain http from now on: GIVE_UP_HTTPS=1' ;;
    esac
}

# The step `keys` knows, from its volume, what was served last, also when no container is left. It ends with an error and says why.
keep_https_of_volume() {
    local answer
    answer=$(docker compose run --rm --no-deps -T keys 2>&1 </dev/null) || fail "the step \`keys\` refuses: $answer"
}

# All clients that come by IPv6 would have one address, and share its limits, in a network without it, and with engines that do not
# forward IPv6 by themselves.
need_ipv6() {
    local config version
    config=$(docker compose config 2>/dev/null) && grep -E "host_ip: ['\"]?[0-9a-f]*:" <<<"$config" | grep -qvE "host_ip: ['\"]?::1['\"]?\$" || return 0
    grep -q '^ *enable_ipv6: true$' <<<"$config" ||
        fail 'HTTP_ADDRESS or HTTP_ADDRESS_IPV6 is an IPv6 address, but the containers have no IPv6: all clients would have one address.' \
            'Put COMPOSE_FILE=docker-compose.yml:docker-compose.ipv6.yml into .env, or serve IPv4 only: HTTP_ADDRESS=0.0.0.0'
    version=$(docker version --format '{{.Server.APIVersion}}')
    at_least "$version" 1.46 ||
        fail "IPv6 needs a Docker engine of version 27, with API 1.46; this has $version. Serve IPv4 only: HTTP_ADDRESS=0.0.0.0"
}

# Rootless engines usually forward ports by a program of their own.
warn_of_one_address() {
    [[ ${EDGE-} == proxied || $(docker info --format '{{.SecurityOptions}}') != *name=rootless* ]] ||
        warn 'the Docker engine is rootless: unless its port driver is slirp4netns or implicit, all clients have one address, and share its limits.'
}

# Builds the images, starts what is not running, and prints the public url on standard output.
compose_up() {
    local port
    ask_for_project
    port=$(compose_port) || exit
    fit_processors
    keep_https
    need_ipv6
    is_local || warn_of_one_address
    REVISION=$(git rev-parse HEAD 2>/dev/null || printf unknown)
    export REVISION
    say 'Building the images (the first time takes several minutes)' >&2
    docker compose build >&2 || fail 'the images could not be built; the reason is above.' \
        'To do without Docker: WITHOUT_DOCKER=1 ./start.sh'
    note COMPOSE_PROJECT_NAME "${COMPOSE_PROJECT_NAME-}"
    # 80 is what `docker compose` takes by itself. Told of another, it leaves Nginx where it is.
    [[ -n ${HTTP_PORT-} ]] || ((port == 80)) || note HTTP_PORT "$port"
    export HTTP_PORT=$port
    say 'Starting the containers' >&2
    if ! docker compose up --detach --wait --wait-timeout 300 >&2; then
        # Why nothing may start, where that is for its step to say.
        docker compose logs --no-log-prefix --tail 3 keys >&2 || true
        fail 'the containers did not all start: see ./start.sh status and ./start.sh logs.' \
            'If the port was taken, HTTP_PORT chooses another. To do without Docker: WITHOUT_DOCKER=1 ./start.sh'
    fi
    local host=${HTTP_ADDRESS:-127.0.0.1}
    # Docker publishes on that address alone.
    case $host in 127.0.0.1 | 0.0.0.0 | '[::]' | '[::1]') host=localhost ;; esac
    if [[ $(configured_edge) == tls ]]; then
        port=${HTTPS_PORT:-443}
        if ((port == 443)); then printf 'https://%s\n' "$host"; else printf 'https://%s:%s\n' "$host" "$port"; fi
    elif ((port == 80)); then printf 'http://%s\n' "$host"; else printf 'http://%s:%s\n' "$host" "$port"; fi
}

# status, logs and stop of the containers.
compose_command() {
    local command=$1
    shift
    case $command in
        stop) docker compose down "$@" ;;
        logs)
            [[ -z ${1-} || $1 == -* ]] || docker compose config --services | grep -qxF -- "$1" ||
                fail "there is no service $1: ./start.sh status names them"
            docker compose logs "$@"
            ;;
        status)
            if [[ ${1-} == --json ]]; then
                docker compose ps --format json
            else
                docker compose ps "$@"
            fi
            ;;
    esac
}
