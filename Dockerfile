# Gatefold's images, one target each:
#
#   api     the REST replica, gatefold-api, and with it the commands of administrators
#   ws      the WebSocket replica, gatefold-ws
#   nginx   the reverse proxy with the page
#   keys    makes and rotates keys; runs for a second
#   dev     builds and runs a mounted working copy anew at every change; never to be shipped
#
# docker-compose.yml and k8s/ show how they are run. `docker build --target api --tag gatefold-api .` needs BuildKit.

ARG RUST_IMAGE=rust:1.95-bookworm
ARG NGINX_IMAGE=nginx:stable-alpine-slim
ARG DEBIAN_IMAGE=debian:bookworm-slim

# Only what says which crates are needed. Everything from here on is cached by contents: as long as no manifest changes,
# the dependencies are not built again.
FROM ${DEBIAN_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path './.cargo/*' ! -path '*/benches/*.rs' -delete \
    && find . -name '*.rs' -exec truncate -s 0 {} + \
    && for manifest in */Cargo.toml; do \
        mkdir -p "${manifest%/*}/src" \
        && touch "${manifest%/*}/src/lib.rs" \
        && echo 'fn main() {}' >"${manifest%/*}/src/main.rs"; \
    done

# The programs do not depend on the page, the proxy or scripts: a change of those builds nothing again.
FROM ${DEBIAN_IMAGE} AS sources
WORKDIR /src
COPY . .
RUN rm -rf nginx client scripts generate-keys.sh

# Static programs need nothing of the image that they run in. With AUDITABLE=true cargo-auditable lists the crates in them, so
# that scanners and makers of SBOMs (Syft, Trivy, Grype, cargo audit) find these in the finished image. To have it, it is compiled.
FROM ${RUST_IMAGE} AS build
ARG AUDITABLE=false
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN case $AUDITABLE in \
        true) cargo install --locked --root /usr/local cargo-auditable@0.7.7 && build='auditable build' ;; \
        false) build=build ;; \
        *) echo "AUDITABLE: expected true or false, and not '$AUDITABLE'" >&2 && exit 64 ;; \
    esac \
    && mkdir -p /.cargo \
    && printf '[alias]\nprograms = "%s --release --locked -p gatefold-api -p gatefold-ws -p gatefold-edge"\n' "$build" \
        >/.cargo/config.toml
WORKDIR /src
ENV RUSTFLAGS="-C target-feature=+crt-static" SQLX_OFFLINE=true
COPY --from=manifests /src .
RUN cargo programs --target "$(rustc -vV | sed -n 's/^host: //p')"
COPY --from=sources /src .
# Cargo goes by times, and the empty sources above may be younger than the real ones. Not what dependencies have generated in
# target/: they would all be built again.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && target="$(rustc -vV | sed -n 's/^host: //p')" \
    && cargo programs --target "$target" \
    && install -D -t /out "target/$target/release/gatefold-api" "target/$target/release/gatefold-ws" "target/$target/release/gatefold-edge"

# What both replicas have besides their program: certificates of authorities, to reach Postgres, Redis and a collector of
# traces over TLS (SSL_CERT_FILE names others, in a file that is mounted); a user without rights or a password; mount points
# that are theirs; and something that asks whether they are well.
FROM ${RUST_IMAGE} AS root
COPY scripts/container-health.rs /src/
RUN mkdir -p /root-fs/bin /root-fs/etc/ssl/certs /root-fs/run/keys /root-fs/run/database /root-fs/run/redis \
    && rustc --edition 2024 -O -C target-feature=+crt-static -C strip=symbols \
        -o /root-fs/bin/container-health /src/container-health.rs \
    && cp /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/ \
    && echo 'gatefold:x:65532:65532::/:/sbin/nologin' >/root-fs/etc/passwd \
    && echo 'gatefold:x:65532:' >/root-fs/etc/group \
    && chown -R 65532:65532 /root-fs/run

FROM scratch AS replica
ARG VERSION=0.2.0-dev
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="Gatefold" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=root /root-fs /
USER 65532:65532
# Keys are looked for in keys/, that is in /run/keys.
WORKDIR /run
STOPSIGNAL SIGTERM

FROM replica AS api
LABEL org.opencontainers.image.title="gatefold-api" \
      org.opencontainers.image.description="Gatefold's REST replica: log-in, sessions, tokens"
COPY --from=build /out/gatefold-api /bin/gatefold-api
EXPOSE 3000 9100
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/bin/container-health", "3000", "/api/health"]
ENTRYPOINT ["/bin/gatefold-api"]

FROM replica AS ws
LABEL org.opencontainers.image.title="gatefold-ws" \
      org.opencontainers.image.description="Gatefold's WebSocket replica"
COPY --from=build /out/gatefold-ws /bin/gatefold-ws
EXPOSE 3001 9101
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/bin/container-health", "3001", "/health"]
ENTRYPOINT ["/bin/gatefold-ws"]

# The configuration is put together at the start (nginx/container/entrypoint.sh), below /run/gatefold: mount a tmpfs there.
FROM ${NGINX_IMAGE} AS nginx
ARG VERSION=0.2.0-dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gatefold-nginx" \
      org.opencontainers.image.description="Gatefold's reverse proxy, and its page" \
      org.opencontainers.image.vendor="Gatefold" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=root /root-fs/bin/container-health /bin/container-health
COPY --from=build /out/gatefold-edge /bin/gatefold-edge
COPY nginx /etc/gatefold/nginx
COPY client /usr/share/gatefold/client
RUN mkdir -p /run/gatefold /etc/gatefold/tls && chown 65532:65532 /run/gatefold
USER 65532:65532
WORKDIR /
EXPOSE 8080 8443 8081 9102
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/bin/container-health", "8081", "/health"]
ENTRYPOINT ["/etc/gatefold/nginx/container/entrypoint.sh"]
CMD []

FROM ${DEBIAN_IMAGE} AS keys
LABEL org.opencontainers.image.title="gatefold-keys" \
      org.opencontainers.image.description="Makes and rotates Gatefold's keys"
# A version named here would be gone with the next security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 /run/keys /run/public-keys /run/database /run/database-role /run/redis
COPY generate-keys.sh scripts/container-keys.sh /opt/gatefold/
USER 65532:65532
ENTRYPOINT ["/opt/gatefold/container-keys.sh"]

FROM ${RUST_IMAGE} AS dev
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends entr \
    && rm -rf /var/lib/apt/lists/*
COPY scripts/container-dev.sh /opt/gatefold/
WORKDIR /src
# Both are volumes, which the containers share, with the locks in them.
ENV CARGO_HOME=/cargo CARGO_TARGET_DIR=/target SQLX_OFFLINE=true
ENTRYPOINT ["/opt/gatefold/container-dev.sh"]
