//! mumbai-mesh's proxy-wasm filter: glue between a stock Envoy and the `policy` crate.
//!
//! Envoy calls `abi`; `root` holds the configuration in force, `http` walks one request through it, `shared`
//! keeps the circuit breakers in Envoy's shared data, `meters` its metrics, and `host` makes every call to
//! Envoy. Those calls are what a request pays for, so `headers`, `clock`, `tally`, `memory` and `pace` spare them.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    missing_docs
)]

mod abi;
mod buffer;
mod clock;
mod gauges;
mod headers;
mod host;
mod http;
mod memory;
mod meters;
mod pace;
mod plugin;
mod root;
mod shared;
mod tally;
