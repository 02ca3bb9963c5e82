//! What every Envoy of the mesh does alike.

use std::time::Duration;

use policy::units::BasisPoints;

use super::Host;

/// What every Envoy of the mesh does alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies {
    /// Writes a line of JSON to its standard output for each request.
    pub access_log: bool,
    /// Sends spans.
    pub tracing: Option<Tracing>,
    /// Connections are replaced after this time, so that none outlives its certificate for long.
    pub max_connection_duration: Duration,
}

impl Default for Proxies {
    fn default() -> Self {
        Self {
            access_log: true,
            tracing: None,
            max_connection_duration: Duration::from_secs(60 * 60),
        }
    }
}

/// Where spans go, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// Host of a collector that speaks OTLP over gRPC.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The share of requests without a trace of their own that begin one.
    pub sampling: BasisPoints,
}
