//! Services and their endpoints.

use std::{net::IpAddr, time::Duration};

use policy::{
    breaker::BreakerPlan,
    canary::CanarySplit,
    limit::Limit,
    units::{ClassName, VersionLabel, ZoneName},
};

/// A service and the rules for calling it.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What the application listens on beside its sidecar, unless its endpoint says `app_port`.
    pub port: Option<u16>,
    /// Whether endpoints stand behind a sidecar Envoy of ours.
    pub sidecar: bool,
    /// Instances, in the file's order.
    pub endpoints: Vec<Endpoint>,
    /// The traffic class of its requests.
    pub class: ClassName,
    /// Route timeout; Envoy's own default (15 s) when absent.
    pub timeout: Option<Duration>,
    /// When callers stop calling it.
    pub breaker: BreakerPlan,
    /// Requests per second that are let through, all classes together.
    pub limit: Option<Limit>,
    /// The split of its users, if a canary runs.
    pub canary: Option<CanarySplit>,
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique in the mesh; the `node.id` of its sidecar.
    pub id: String,
    /// Address that callers connect to.
    pub host: IpAddr,
    /// Port that callers connect to: the sidecar's inbound port where there is one.
    pub port: u16,
    /// The application's own port beside the sidecar.
    pub app_port: Option<u16>,
    /// Load-balancing weight, 1..=65535.
    pub weight: u32,
    /// Region, for Envoy's locality.
    pub region: Option<String>,
    /// `zone`, else `<region>-<az>`, else none.
    pub zone: Option<ZoneName>,
    /// Version label; endpoints without one are stable.
    pub version: Option<VersionLabel>,
}

impl Service {
    /// Endpoints that serve a version: `None` is stable, which is every endpoint that does not
    /// carry the canary's label.
    pub fn endpoints_of<'s>(
        &'s self,
        version: Option<&'s VersionLabel>,
    ) -> impl Iterator<Item = &'s Endpoint> {
        let canary = self.canary.as_ref().map(|canary| &canary.version);
        self.endpoints.iter().filter(move |endpoint| match version {
            Some(label) => endpoint.version.as_ref() == Some(label),
            None => canary.is_none() || endpoint.version.as_ref() != canary,
        })
    }
}
