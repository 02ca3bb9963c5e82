//! The management server of mumbai-mesh: from one readable mesh file to what stock Envoys are sent.
//!
//! `mesh` reads and validates, `compile` makes resources, `discovery` speaks the protocol, `grpc`
//! carries it; `store` keeps what outlives the process, `catalog`, `registry`, `raw`, `publish`, `fleet` and others own the state; `app` wires them, `cli` is the door.

// A reader that has enough is no error: `cli::output::print`.
#![warn(clippy::print_stdout)]

pub mod access;
pub mod analyze;
pub mod api;
pub mod app;
pub mod archive;
pub mod bootstrap;
pub mod calendar;
pub mod callers;
pub mod catalog;
pub mod census;
pub mod check;
pub mod cli;
pub mod clock;
pub mod compile;
pub mod desired;
pub mod differences;
pub mod discovery;
pub mod dump;
pub mod explain;
pub mod export;
pub mod file_events;
pub mod fleet;
pub mod flood;
pub mod grpc;
pub mod health;
pub mod load_reports;
pub mod loud;
pub mod mesh;
pub mod metrics;
pub mod page;
pub mod pki;
pub mod plan;
pub mod private_file;
pub mod proxies;
pub mod publish;
pub mod raw;
pub mod redact;
pub mod reference;
pub mod registry;
pub mod replicas;
pub mod resource;
pub mod seal;
pub mod settings;
pub mod source;
pub mod store;
pub mod text;
