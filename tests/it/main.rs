//! Everything that is promised of the real thing, on real Envoys, the real filter and the real server.
//! Run by `cargo xtask test`, which builds what the tests start and says where it is.

mod accounting;
mod agreement;
mod artifact;
mod breaker;
mod calendar;
mod canary;
mod classes;
mod cli;
mod clock;
mod door1;
mod fleet;
mod gateway;
mod golden;
mod grpcurl;
mod health;
mod http2;
mod identity;
mod live;
mod mesh;
mod mesh_file;
mod mtls;
mod proxy_config;
mod ramp;
mod raw;
mod reload;
mod replaced;
mod robustness;
mod server;
mod sidecar;
mod simulation;
mod traffic;
mod transactions;
mod wasm_host;
mod workers;
mod xds_rules;
