FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
RUN apt-get update \
    && apt-get install -y --no-install-recommends autoconf automake libtool make nasm \
    && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cargo build --release --locked --features isal

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /data --create-home pocketvault
COPY --from=build /build/target/release/pocketvault /usr/local/bin/pocketvault
USER pocketvault
WORKDIR /data
VOLUME /data
EXPOSE 8090
# Answers also while a restore replaces the process: requests wait at the door then.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["pocketvault", "health", "--server", "http://127.0.0.1:8090"]
ENTRYPOINT ["pocketvault"]
CMD ["serve", "--http", "0.0.0.0:8090", "--dir", "/data/pb_data"]
