# Builds hookward and puts it alone into a small image:
#
#   docker build -t hookward .
#   docker run --rm -p 8080:8080 -e CLERK_SECRET \
#     -v "$PWD/hookward.toml:/etc/hookward/hookward.toml:ro" hookward

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# The dependencies, in a layer that stays as long as the lock file does.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/it \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs tests/it/main.rs tests/architecture.rs \
 && cargo build --release --locked

# hookward itself. The times of the copied files may be older than that build.
COPY src src
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked \
 # A folder that its user may write, for a volume to be laid over.
 && mkdir -p /out/var/lib/hookward


FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="hookward" \
      org.opencontainers.image.description="A verifying webhook gateway" \
      org.opencontainers.image.licenses="MIT"

COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/var/lib/hookward /var/lib/hookward
COPY --from=build /src/target/release/hookward /usr/local/bin/hookward

# To be reached from outside of the container; and time for Kubernetes to turn
# traffic away before the listener is closed.
ENV HOOKWARD_ADMIN__LISTEN=0.0.0.0:9464 \
    HOOKWARD_SERVER__DRAIN_DELAY=5s

# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["hookward", "health"]
ENTRYPOINT ["hookward"]
CMD ["serve"]
