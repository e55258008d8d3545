# One image with all programs; docker-compose.yml says which one a container runs.

FROM rust:1.95-bookworm AS build
WORKDIR /build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# The committed query data stands in for a database.
ENV SQLX_OFFLINE=true
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --package api --package worker --bins \
    && mkdir /programs \
    && for program in api dispatch confirm mature payout notify clicknback; do \
           cp "target/release/$program" /programs/; \
       done

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin clicknback
COPY --from=build /programs/ /usr/local/bin/
COPY --chmod=755 ops/compose/ready /usr/local/bin/ready
USER 10001:10001
ENV LOG_FORMAT=json LISTEN_PRIVATE=0.0.0.0:9090
# Ready means that the program's own loop turns, not only that it is there.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=6 CMD ["ready"]
STOPSIGNAL SIGTERM
CMD ["api"]
