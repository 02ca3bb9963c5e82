//! mumbai-mesh's proxy-wasm filter: glue between a stock Envoy and the `policy` crate.
//!
//! `root` holds the configuration in force, `http` walks one request through it, `shared` keeps the
//! circuit breakers in Envoy's shared data, `meters` its metrics, and `host` makes every call to Envoy.
//! Those calls are what a request pays for, so `headers`, `clock`, `tally` and `memory` spare them.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    missing_docs
)]

mod clock;
mod gauges;
mod headers;
mod host;
mod http;
mod memory;
mod meters;
mod plugin;
mod root;
mod shared;
mod tally;

/// Called by Envoy when a VM starts.
#[allow(unsafe_code, reason = "the ABI finds its entry by name")]
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    proxy_wasm::set_root_context(|_| Box::new(root::Root::default()));
}
