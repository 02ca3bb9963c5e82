//! What an xDS management server must show, asked of the real server through raw resources, in both
//! variants, on ADS and on the services of single types. Source of truth: "xDS REST and gRPC protocol"
//! in Envoy's documentation, and the comments of `envoy/service/discovery/v3/discovery.proto`.
//!
//! The tests share one server: each has a node of its own, and resources that only this node is sent.

mod abuse;
mod apart;
mod crowds;
mod delta;
mod doors;
mod every;
mod names;
mod order;
mod restart;
mod sotw;
mod subscriptions;
mod world;
