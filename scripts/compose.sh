# shellcheck shell=bash
# The part of start.sh that runs Gatefold with Docker Compose. To be sourced after lib.sh, from the root of the repository.

# Whether an engine answers that can run docker-compose.yml. WITHOUT_DOCKER=1 says no.
have_docker_engine() {
    [[ -z ${WITHOUT_DOCKER-} ]] && have docker &&
        timeout 10 docker info >/dev/null 2>&1 &&
        docker compose version >/dev/null 2>&1
}

# Takes over .env, and gives this clone a Compose project of its own, from its path, or else two clones in folders of one
# name would share containers and data. Once it was started .env holds the name, so that it means the same to
# `docker compose` and survives a move; a copy of the folder, which has a copy of .env, gets another.
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
    [[ -n ${COMPOSE_PROJECT_NAME-} ]] || in_env_file COMPOSE_PROJECT_NAME ||
        COMPOSE_PROJECT_NAME=gatefold-$(printf '%s' "$PWD" | sha256sum | cut -c 1-8)
    export COMPOSE_PROJECT_NAME
}

# note NAME VALUE: in .env, unless it has a value of that name.
note() {
    ! in_env_file "$1" || return 0
    # The last line may have no end.
    [[ ! -s $ENV_FILE || -z $(tail -c 1 "$ENV_FILE") ]] || echo >>"$ENV_FILE"
    printf '%s%s\n%s=%s\n' "$NOTED_IN" "$PWD" "$1" "$2" >>"$ENV_FILE"
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
    elif ! taken 80; then
        printf 80
    else
        printf 8080
    fi
}

# Builds the images, starts what is not running, and prints the public url on standard output.
compose_up() {
    local port
    port=$(compose_port)
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
