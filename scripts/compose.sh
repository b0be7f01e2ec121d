# shellcheck shell=bash
# The part of start.sh that runs Gatefold with Docker Compose. To be sourced after lib.sh, from the root of the repository.

# Whether an engine answers that can run docker-compose.yml. WITHOUT_DOCKER=1 says no.
have_docker_engine() {
    [[ -z ${WITHOUT_DOCKER-} ]] && have docker &&
        timeout 10 docker info >/dev/null 2>&1 &&
        docker compose version >/dev/null 2>&1
}

# Gives this clone a Compose project of its own, from its path, or else two clones in folders of one name would share
# containers and data. Once it was started .env holds the name, so that it means the same to `docker compose` and survives a
# move; a copy of the folder, which has a copy of .env, gets another.
readonly NOTED_IN='# made by start.sh in '
name_project() {
    local noted
    [[ -z ${COMPOSE_PROJECT_NAME-} ]] || return 0
    if [[ -e .env ]]; then
        noted=$(sed -n "s|^$NOTED_IN||p" .env)
        if [[ -n $noted && $noted != "$PWD" && -e $noted/.env ]]; then
            sed -i "\|^$NOTED_IN|,+1d" .env
        fi
        COMPOSE_PROJECT_NAME=$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' .env | tail -n 1)
    fi
    [[ -n ${COMPOSE_PROJECT_NAME-} ]] || COMPOSE_PROJECT_NAME=gatefold-$(printf '%s' "$PWD" | sha256sum | cut -c 1-8)
    export COMPOSE_PROJECT_NAME
}

note_project() {
    grep -qs '^COMPOSE_PROJECT_NAME=' .env ||
        printf '%s%s\nCOMPOSE_PROJECT_NAME=%s\n' "$NOTED_IN" "$PWD" "$COMPOSE_PROJECT_NAME" >>.env
}

# Whether containers of this clone are there.
composed() {
    have_docker_engine && [[ -n $(docker compose ps --quiet 2>/dev/null) ]]
}

# The port of the web interface: the one asked for, the one in use by a cluster that runs already, 80, or else 8080.
compose_port() {
    local published
    if [[ -n ${HTTP_PORT-} ]]; then
        printf '%s' "$HTTP_PORT"
    elif published=$(docker compose port nginx 8080 2>/dev/null) && [[ ${published##*:} -gt 0 ]]; then
        printf '%s' "${published##*:}"
    elif (exec 3<>/dev/tcp/127.0.0.1/80) 2>/dev/null; then
        printf 8080
    else
        printf 80
    fi
}

# Builds the images, starts what is not running, and prints the public url on standard output.
compose_up() {
    local port
    note_project
    port=$(compose_port)
    REVISION=$(git rev-parse HEAD 2>/dev/null || printf unknown)
    export HTTP_PORT=$port REVISION
    say 'Building the images (the first time takes several minutes)' >&2
    docker compose build >&2 || fail 'the images could not be built; the reason is above.' \
        'To do without Docker: WITHOUT_DOCKER=1 ./start.sh'
    say 'Starting the containers' >&2
    docker compose up --detach --wait --wait-timeout 300 >&2 ||
        fail 'the containers did not all start: see ./start.sh status and ./start.sh logs.' \
            'If the port was taken, HTTP_PORT chooses another. To do without Docker: WITHOUT_DOCKER=1 ./start.sh'
    if ((port == 80)); then printf 'http://localhost\n'; else printf 'http://localhost:%s\n' "$port"; fi
}

# status, logs and stop of the containers.
compose_command() {
    local command=$1
    shift
    case $command in
        stop) docker compose down "$@" ;;
        logs) docker compose logs "$@" ;;
        status)
            if [[ ${1-} == --json ]]; then
                docker compose ps --format json
            else
                docker compose ps "$@"
            fi
            ;;
    esac
}
