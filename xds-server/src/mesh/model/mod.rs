//! The validated mesh: what every later step may rely on. It embeds policy's types, so that a rule
//! means the same in the file, in the filter and in `explain`.

mod freeze;
mod gateway;
mod members;
mod proxies;
mod service;
mod upstream;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use policy::{
    limit::FleetSize,
    time::WallTime,
    timetable::Timetable,
    traffic_class::TrafficClass,
    units::ServiceName,
    wire::{FilterConfig, ServiceSource},
};

pub use self::{
    freeze::{ChangeFreeze, Frozen, FrozenFiles},
    gateway::{
        ClientOptions, Forward, Gateway, HostPattern, Redirect, Rewrite, Route, RouteAction,
    },
    members::Members,
    proxies::{Proxies, Tracing},
    service::{Endpoint, MutualTls, Service, Standing},
    upstream::{
        HealthCheck, HealthCheckKind, Host, OutlierDetection, Placement, Protocol, Retries,
        RetryBudget, Thresholds,
    },
};

use super::TrustDomain;

/// How long certificates live, in days, where the file says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CertificateDays {
    /// The root, when it is made.
    pub ca: Option<u32>,
    /// A service's or gateway's.
    pub service: Option<u32>,
}

/// One whole, consistent mesh. Deterministic order everywhere: equal files give equal resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// Shown to people; `mesh` when the file names none.
    pub name: String,
    /// Prefix that zone labels drop (`mumbai-west` -> `west`).
    pub region: Option<String>,
    /// In which its services and gateways have their identities.
    pub trust_domain: TrustDomain,
    /// How long certificates live.
    pub certificates: CertificateDays,
    /// Peak hours and festivals in the mesh's own time zone.
    pub timetable: Timetable,
    /// When changes are refused.
    pub freeze: ChangeFreeze,
    /// Classes of requests; the first that matches counts.
    pub traffic_classes: Vec<TrafficClass>,
    /// What every Envoy does alike.
    pub proxies: Proxies,
    /// Every service, by name.
    pub services: Members<Service>,
    /// Every gateway, by name. A gateway and a service never share a name: both are `node.cluster`s.
    pub gateways: BTreeMap<ServiceName, Gateway>,
}

impl Mesh {
    /// A mesh without services, for a server that has been given nothing yet.
    pub fn empty(timetable: Timetable) -> Self {
        Self {
            name: "mesh".into(),
            region: None,
            trust_domain: TrustDomain::default(),
            certificates: CertificateDays::default(),
            timetable,
            freeze: ChangeFreeze::default(),
            traffic_classes: Vec::new(),
            proxies: Proxies::default(),
            services: Members::new(),
            gateways: BTreeMap::new(),
        }
    }

    /// The same as people look at it now: an override that has ended is nothing.
    pub fn as_of(&self, now: WallTime) -> Cow<'_, Self> {
        let has_ended = |service: &Service| service.overridden.is_some_and(|said| !said.acts(now));
        let mut mesh = Cow::Borrowed(self);
        for (name, service) in self.services.iter().filter(|(_, one)| has_ended(one)) {
            let without = Service {
                overridden: None,
                ..service.clone()
            };
            mesh.to_mut().services.put(name.clone(), Arc::new(without));
        }
        mesh
    }

    /// What the filter must know to call every service; `clients` are those of the listener that it
    /// serves, `service_from` is what its routes tell.
    pub fn filter_config(
        &self,
        clients: ClientOptions,
        service_from: ServiceSource,
    ) -> FilterConfig {
        self.filter_config_for(self.services.iter(), clients, service_from)
    }

    /// As [`filter_config`](Self::filter_config), of these services only.
    pub fn filter_config_for<'m>(
        &self,
        services: impl Iterator<Item = (&'m ServiceName, &'m Service)>,
        clients: ClientOptions,
        service_from: ServiceSource,
    ) -> FilterConfig {
        let services = services
            .map(|(name, service)| service.policy(name))
            .collect();
        FilterConfig {
            zone: None,
            region: self.region.clone(),
            // A better source of a date is no change for any Envoy.
            timetable: self.timetable.clone().without_sources(),
            traffic_classes: self.traffic_classes.clone(),
            services,
            trust_canary_header: clients.trust_canary_header,
            debug_headers: clients.debug_headers,
            service_from,
            // Who serves nodes knows how many there are.
            fleet_size: FleetSize::ONE,
        }
    }
}
