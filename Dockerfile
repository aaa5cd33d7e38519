# Three images from one file:
#
#   plimsoll         everything for one host: API, worker, PostgreSQL, Redis, git, docker compose
#   plimsoll-api     the API alone: the program, its libraries, certificates, nothing else
#   plimsoll-worker  the worker, with docker compose for the trigger that edits Compose files
#
#   docker build --target plimsoll-api --tag plimsoll-api .
#
# The bases are arguments, so that it builds from any mirror, or from images of one's own:
# BASE_IMAGE    Debian 13 or later, which has the plugin compose, or something close
# BUILD_IMAGE   a Rust toolchain, with a libc that is not newer than the base's
# BINARIES      an image that has the three programs in /out, for those who compile elsewhere

ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG BASE_IMAGE=docker.io/library/debian:trixie-slim
ARG BINARIES=build

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p plimsoll -p plimsoll-api -p plimsoll-worker \
    && mkdir /out \
    && cp target/release/plimsoll target/release/plimsoll-api target/release/plimsoll-worker /out/

FROM ${BINARIES} AS binaries

FROM ${BASE_IMAGE} AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates docker-compose \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 plimsoll \
    && useradd --uid 65532 --gid 65532 --home-dir / --no-create-home --shell /usr/sbin/nologin plimsoll

# PostgreSQL's package would make a cluster of its own, which nobody here uses.
FROM base AS packages
RUN mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install -y --no-install-recommends git postgresql redis-server \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/plimsoll

# --- the API ------------------------------------------------------------------------------------

FROM base AS api-root
COPY deploy/image/collect /usr/local/bin/
COPY --from=binaries /out/plimsoll-api /usr/bin/
RUN collect /usr/bin/plimsoll-api

FROM scratch AS plimsoll-api
COPY --from=api-root /rootfs /
ENV PLIMSOLL_LISTEN=0.0.0.0:3000
USER 65532:65532
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 CMD ["/usr/bin/plimsoll-api", "healthcheck"]
ENTRYPOINT ["/usr/bin/plimsoll-api"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="plimsoll-api" \
    org.opencontainers.image.description="The HTTP API of Plimsoll, which keeps fleets of Docker containers up to date" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

# --- the worker ---------------------------------------------------------------------------------

FROM base AS plimsoll-worker
COPY --from=binaries /out/plimsoll-worker /usr/bin/
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/usr/bin/plimsoll-worker", "healthcheck"]
ENTRYPOINT ["/usr/bin/plimsoll-worker"]
CMD ["run"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="plimsoll-worker" \
    org.opencontainers.image.description="The worker of Plimsoll, which watches and updates the containers of Docker engines" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

# --- everything for one host --------------------------------------------------------------------

FROM packages AS plimsoll
COPY --from=binaries /out/plimsoll /usr/bin/
ENV PLIMSOLL_LISTEN=0.0.0.0:3000 PLIMSOLL_DATA_DIR=/var/lib/plimsoll
VOLUME /var/lib/plimsoll
USER 65532:65532
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["/usr/bin/plimsoll", "healthcheck"]
ENTRYPOINT ["/usr/bin/plimsoll"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="plimsoll" \
    org.opencontainers.image.description="Plimsoll for one host: API, worker, PostgreSQL and Redis" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
