# The image of mumbai-mesh, and one with the applications of the demonstration. docker-compose.yml builds both; alone:
#   docker build -t mumbai-mesh:0.1.0 .
# `cargo xtask images` replaces the first stage by programs that cargo builds on this machine, so that Docker compiles nothing.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo xtask wasm \
    && cargo build --release --locked -p mumbai-mesh -p mumbai-mesh-tests --bins \
    && mkdir /out \
    && cp target/mumbai_mesh.wasm target/release/mumbai-mesh target/release/demo-service target/release/black-box /out/

# An application to stand behind a sidecar, and the test that looks at the mesh from inside.
FROM debian:bookworm-slim AS demo
COPY --from=build /out/demo-service /out/black-box /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["demo-service"]

FROM debian:bookworm-slim AS mumbai-mesh
COPY --from=build /out/mumbai-mesh /out/mumbai_mesh.wasm /usr/local/bin/
# A volume that is mounted here for the first time belongs to the same user.
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/mumbai-mesh /etc/mumbai-mesh/node
USER 65532:65532
EXPOSE 18000 8088
ENTRYPOINT ["mumbai-mesh"]
CMD ["serve", "--xds-listen=0.0.0.0:18000", "--api-listen=0.0.0.0:8088", "--state-dir=/var/lib/mumbai-mesh/state"]
