//! Every decision of mumbai-mesh, pure: no clock, no randomness, no globals, no I/O. What time it is
//! and what the dice say comes in as a value, so the filter in Envoy, the server and `explain` decide
//! alike.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    missing_docs
)]

pub mod breaker;
pub mod bytes;
pub mod canary;
pub mod decision;
pub mod limit;
pub mod names;
pub mod outcome;
pub mod overrides;
pub mod reader;
pub mod shapes;
pub mod time;
pub mod timetable;
pub mod traffic_class;
pub mod units;
pub mod wire;
