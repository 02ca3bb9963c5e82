//! Services and their endpoints.

use std::{collections::BTreeSet, time::Duration};

use policy::{
    breaker::{BreakerPlan, BreakerRules},
    canary::CanarySplit,
    limit::Limit,
    overrides::Override,
    units::{ClassName, ServiceName, VersionLabel, ZoneName},
    wire::ServiceConfig,
};

use super::{
    HealthCheck, Host, OutlierDetection, Placement, Protocol, Retries, RetryBudget, Thresholds,
};

/// Whether a service's sidecars demand certificates of their callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutualTls {
    /// They refuse whoever shows none of this mesh.
    Strict,
    /// They serve plaintext too.
    Permissive,
    /// Plaintext only.
    Off,
}

impl MutualTls {
    /// As the mesh file says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Permissive => "permissive",
            Self::Off => "off",
        }
    }
}

/// A service and the rules for calling it.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What the application listens on beside its sidecar, unless its endpoint says `app_port`.
    pub port: Option<u16>,
    /// Whether endpoints stand behind a sidecar Envoy of ours.
    pub sidecar: bool,
    /// Whether its sidecars demand certificates; off without sidecars.
    pub mtls: MutualTls,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// Instances, in the file's order. All are found by address, or all by name.
    pub endpoints: Vec<Endpoint>,
    /// The label of the stable endpoints, where one is named.
    pub stable_version: Option<VersionLabel>,
    /// What its sidecars may call; everything when absent.
    pub uses: Option<BTreeSet<ServiceName>>,
    /// The traffic class of its requests.
    pub class: ClassName,
    /// Route timeout; Envoy's own default (15 s) when absent.
    pub timeout: Option<Duration>,
    /// The longest timeout of all routes to it, as a breaker's probes need to know.
    pub longest_timeout: Option<Duration>,
    /// Further tries; none when absent.
    pub retries: Option<Retries>,
    /// How much of the traffic may be retries, of all routes together.
    pub retry_budget: Option<RetryBudget>,
    /// What its endpoints are asked.
    pub health_check: Option<HealthCheck>,
    /// When an endpoint is left out because of its answers.
    pub outlier_detection: Option<OutlierDetection>,
    /// Envoy's own limits.
    pub thresholds: Thresholds,
    /// Which endpoints are preferred.
    pub placement: Placement,
    /// When callers stop calling it.
    pub breaker: BreakerPlan,
    /// Requests per second that are let through, all classes together.
    pub limit: Option<Limit>,
    /// The split of its users, if a canary runs.
    pub canary: Option<CanarySplit>,
    /// What somebody says of it until a time.
    pub overridden: Option<Override>,
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique in the mesh; the `node.id` of its sidecar.
    pub id: String,
    /// Where callers connect to.
    pub host: Host,
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
    /// Version label.
    pub version: Option<VersionLabel>,
    /// Who says that it is there.
    pub standing: Standing,
}

/// Who says that an endpoint is there, and how it stands with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// The mesh file does.
    #[default]
    File,
    /// It registered itself, and its lease holds.
    Registered,
    /// It registered itself and is about to leave: it gets no new requests.
    Draining,
    /// It fell silent together with too many others: it stays, as unhealthy.
    Vanished,
}

impl Service {
    /// What the filter must know to call it.
    pub fn policy(&self, name: &ServiceName) -> ServiceConfig {
        ServiceConfig {
            name: name.clone(),
            class: self.class.clone(),
            clusters: Vec::new(),
            authorities: Vec::new(),
            breaker: self.breaker.clone(),
            timeout: self
                .longest_timeout
                .filter(|timeout| *timeout != BreakerRules::DEFAULT_ROUTE_TIMEOUT),
            limit: self.limit.clone(),
            canary: self.canary.clone(),
            overridden: self.overridden,
        }
    }

    /// Endpoints that serve a version. `None` is stable: those of `stable_version` where one is named,
    /// else all that do not carry the canary's label.
    pub fn endpoints_of<'s>(
        &'s self,
        version: Option<&'s VersionLabel>,
    ) -> impl Iterator<Item = &'s Endpoint> {
        let canary = self.canary.as_ref().map(|canary| &canary.version);
        self.endpoints.iter().filter(move |endpoint| {
            let label = endpoint.version.as_ref();
            match (version, &self.stable_version) {
                (Some(asked), _) => label == Some(asked),
                (None, Some(stable)) => label == Some(stable),
                (None, None) => canary.is_none() || label != canary,
            }
        })
    }

    /// Whether its endpoints are found by name.
    pub fn found_by_name(&self) -> bool {
        let mut hosts = self.endpoints.iter().map(|endpoint| &endpoint.host);
        hosts.any(|host| matches!(host, Host::Name(_)))
    }
}
