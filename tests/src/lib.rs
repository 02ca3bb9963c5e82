//! Starts the real thing: Envoys, the server, applications; moves their clock; speaks to them; and
//! leaves nothing behind. Used by the integration tests and by the demonstration.

pub mod artifacts;
pub mod certificate;
pub mod clock;
pub mod demo_services;
pub mod envoy;
pub mod etcd;
pub mod http;
pub mod load;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod readme;
pub mod server;
pub mod settings;
pub mod wait;
pub mod xds;
