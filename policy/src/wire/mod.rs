//! The filter's configuration: what the server sends, and what a static bootstrap may hold. Versioned;
//! unknown fields are refused, and all problems are told at once.

mod json;
mod read;
mod write;

use std::time::Duration;

use crate::{
    breaker::BreakerPlan,
    canary::CanarySplit,
    limit::{FleetSize, Limit},
    overrides::Override,
    timetable::Timetable,
    traffic_class::TrafficClass,
    units::{ClassName, ServiceName, ZoneName},
};

/// The one version of the format so far; the field `version` must say it.
pub const VERSION: i64 = 1;

/// All that one filter decides by.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterConfig {
    /// The node's own zone; a node without one sees all windows.
    pub zone: Option<ZoneName>,
    /// Prefix that zone labels of metrics drop.
    pub region: Option<String>,
    /// Peak hours and festivals.
    pub timetable: Timetable,
    /// Classes of requests; the first that matches counts. Names are unique.
    pub traffic_classes: Vec<TrafficClass>,
    /// The services it may be asked for; names are unique.
    pub services: Vec<ServiceConfig>,
    /// Whether a client's `x-mumbai-canary` chooses its version.
    pub trust_canary_header: bool,
    /// Whether responses tell what was decided (`x-mumbai-decision`).
    pub debug_headers: bool,
    /// By what the service of a request is known.
    pub service_from: ServiceSource,
    /// Among how many proxies limits with `scope: fleet` are shared, itself included.
    pub fleet_size: FleetSize,
}

/// By what the service of a request is known. A look at its route costs a request more than all that
/// is decided about it; so whoever makes the routes may say that it tells nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceSource {
    /// `mumbai_mesh.service` in the metadata of its route, else its cluster, else its authority.
    #[default]
    Route,
    /// Its cluster, else its authority: where routes have no metadata, or none that says anything else
    /// than their clusters.
    Cluster,
    /// Its authority: where virtual hosts are services.
    Authority,
}

impl ServiceSource {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Route, Self::Cluster, Self::Authority];

    /// The format's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Cluster => "cluster",
            Self::Authority => "authority",
        }
    }
}

/// A service and the rules for calling it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// Its name, which is its cluster's name too.
    pub name: ServiceName,
    /// The traffic class of its requests.
    pub class: ClassName,
    /// Further clusters that are this service, beside `NAME` and `NAME|VERSION`.
    pub clusters: Vec<String>,
    /// Further host names, without port, that are this service.
    pub authorities: Vec<String>,
    /// When callers stop calling it.
    pub breaker: BreakerPlan,
    /// Route timeout; Envoy's own default (15 s) when absent.
    pub timeout: Option<Duration>,
    /// Requests per second that are let through, all classes together.
    pub limit: Option<Limit>,
    /// The split of its users, if a canary runs.
    pub canary: Option<CanarySplit>,
    /// What somebody says of it until a time.
    pub overridden: Option<Override>,
}

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod tests;
