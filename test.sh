#!/usr/bin/env bash
# Proves the project: style, lints, and every test against real Postgres, Redis, Nginx and
# Chromium that the tests start themselves.
set -Eeuo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
# shellcheck source=scripts/compose.sh
source scripts/compose.sh

usage() {
    cat <<'TEXT'
Usage: ./test.sh [--long] [--containers] [-- ARGUMENT…]

Installs what is missing (apt, npm), then checks the scripts, the deployment files,
the formatting and the lints, builds, and runs every test, those of the browser
client in Chromium. Stops at the first step that fails.

  --long        also run the tests that take too long for every run: those named
                long:: (failovers in numbers, an update from the previous release),
                one after the other. Without it the last line says so
  --containers  also build the images, and run the end-to-end tests and those of the
                page in the cluster in containers; this needs a Docker engine with
                Compose and a registry, and takes ten minutes or more. Without it the
                last line says so where an engine answers

Arguments after -- go to cargo test, and leave the browser out:

  ./test.sh -- --package gatefold-api
  ./test.sh --long -- --package gatefold-cluster
  ./test.sh -- a_replayed_token
TEXT
}

test_arguments=()
containers=0
long=0
while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --long)
            long=1
            shift
            ;;
        --containers)
            containers=1
            shift
            ;;
        --)
            shift
            test_arguments=("$@")
            break
            ;;
        *)
            usage >&2
            fail "unknown argument: $1"
            ;;
    esac
done

number=0
current=''
summary=()

took() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# step NAME COMMAND…
step() {
    current=$1
    shift
    number=$((number + 1))
    local started=$SECONDS
    printf '\n%s[%d] %s%s\n' "$BOLD" "$number" "$current" "$PLAIN"
    "$@"
    summary+=("$(printf '[%d] %-10s %s' "$number" "$(took $((SECONDS - started)))" "$current")")
    printf '%s[%d] %s: passed after %s%s\n' "$GREEN" "$number" "$current" "$(took $((SECONDS - started)))" "$PLAIN"
}

report() {
    local code=$?
    ((code == 0)) || printf '\n%s%s failed in step %d: %s%s\n' "$RED" "${0##*/}" "$number" "${current:-start}" "$PLAIN"
}
trap report EXIT

need_components() {
    need_rust
    cargo fmt --version >/dev/null 2>&1 || fail 'rustfmt is missing: rustup component add rustfmt'
    cargo clippy --version >/dev/null 2>&1 || fail 'clippy is missing: rustup component add clippy'
    rustc --version
}

# Some tests hold a machine to what it can do: a log-out is known elsewhere in milliseconds, an outage is told within two
# seconds. On one that is busy with something else such a test may fail for its sake. So a few that failed are run once
# more, one after the other, and are named in the end whatever becomes of them: a fault that is seldom seen is one all
# the same. What tries something many times at random, to find what seldom happens, has found it then, and fails.
seldom=()
at_random='chaos|races|fuzz|retries'
cargo_tests() {
    local output again failed=()
    output=$(mktemp)
    # A test's message says where it failed; a trace of the runtime beneath it only hides that.
    if RUST_BACKTRACE=0 cargo test --workspace --locked --no-fail-fast "$@" 2>&1 | tee "$output"; then
        rm "$output"
        return
    fi
    mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$output")
    ((${#failed[@]} >= 1 && ${#failed[@]} <= 3)) || return 1
    [[ ! ${failed[*]} =~ $at_random ]] || return 1
    say "Once more, by themselves: ${failed[*]}"
    cargo test --workspace --locked -- --exact --test-threads 1 "${failed[@]}" 2>&1 | tee "$output"
    again=$(awk '/^test result: ok\./ { passed += $4 } END { print passed + 0 }' "$output")
    ((again >= ${#failed[@]})) || fail "only $again of them were run"
    rm "$output"
    seldom+=("${failed[@]}")
}

# One after the other: they measure, and each keeps the machine busy by itself. None is run again: what fails in numbers fails.
long_tests() {
    RUST_BACKTRACE=0 cargo test --workspace --locked --no-fail-fast "$@" -- --ignored --test-threads 1 long::
}

scripts() {
    local files=(start.sh test.sh generate-keys.sh scripts/*.sh nginx/*.sh nginx/container/*.sh k8s/overlays/dev/*.sh .ci/run)
    shellcheck --external-sources "${files[@]}"
    printf 'shellcheck: %d scripts\n' "${#files[@]}"
}

lints() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo doc --workspace --no-deps --document-private-items --locked --quiet
    # Advisories need the network: the workflows check these, too.
    ! have cargo-deny || cargo deny --locked check bans licenses sources
    scripts/lint-openapi.sh
}

# The tests of clocks shift that of a replica; those of what may be published ask other parsers.
programs=(shellcheck jq faketime python3)
have node || programs+=(nodejs)
step 'programs' need_programs "${programs[@]}"
step 'Redis' need_redis_7
step 'Rust' need_components
step 'scripts' scripts
step 'start.sh' scripts/test-start.sh
step 'deployment' scripts/check-deployment.sh
step 'formatting' cargo fmt --all --check
step 'lints' lints
# The integration tests start the real binaries.
step 'build' cargo build --workspace --bins --locked
step 'tests' cargo_tests "${test_arguments[@]}"
# Who chose some tests of the replicas did not mean these.
((${#test_arguments[@]})) || step 'browser tests' scripts/test-client.sh
if ((long)); then
    need_programs pgbouncer
    step 'long tests' long_tests "${test_arguments[@]}"
fi
if ((containers)); then
    step 'containers' scripts/check-containers.sh
fi

printf '\n%sEverything passed in %s.%s\n' "$BOLD" "$(took "$SECONDS")" "$PLAIN"
printf '%s\n' "${summary[@]}"
((!${#seldom[@]})) || printf '%sFailed at first, and passed alone: %s%s\n' "$BOLD" "${seldom[*]}" "$PLAIN"
if ((!containers)) && have_docker_engine; then
    printf '%sNot run, although a Docker engine answers: the tests in containers (./test.sh --containers)%s\n' "$BOLD" "$PLAIN"
fi
((long)) || printf '%sNot run: the long tests (./test.sh --long)%s\n' "$BOLD" "$PLAIN"
