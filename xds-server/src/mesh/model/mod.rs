//! The validated mesh: what every later step may rely on. It embeds policy's types, so that a rule
//! means the same in the file, in the filter and in `explain`.

mod gateway;
mod service;

use std::collections::BTreeMap;

use policy::{
    timetable::Timetable,
    traffic_class::TrafficClass,
    units::ServiceName,
    wire::{FilterConfig, ServiceConfig, ServiceSource},
};

pub use self::{
    gateway::{ClientOptions, Gateway, PathMatch, Route},
    service::{Endpoint, Service},
};

/// One whole, consistent mesh. Deterministic order everywhere: equal files give equal resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// Shown to people; `mesh` when the file names none.
    pub name: String,
    /// Prefix that zone labels drop (`mumbai-west` -> `west`).
    pub region: Option<String>,
    /// Peak hours and festivals in the mesh's own time zone.
    pub timetable: Timetable,
    /// Classes of requests; the first that matches counts.
    pub traffic_classes: Vec<TrafficClass>,
    /// Every service, by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Every gateway, by name. A gateway and a service never share a name: both are `node.cluster`s.
    pub gateways: BTreeMap<ServiceName, Gateway>,
}

impl Mesh {
    /// A mesh without services, for a server that has been given nothing yet.
    pub fn empty(timetable: Timetable) -> Self {
        Self {
            name: "mesh".into(),
            region: None,
            timetable,
            traffic_classes: Vec::new(),
            services: BTreeMap::new(),
            gateways: BTreeMap::new(),
        }
    }

    /// What the filter must know; `clients` are those of the listener that it serves, `service_from`
    /// is what its routes tell.
    pub fn filter_config(
        &self,
        clients: ClientOptions,
        service_from: ServiceSource,
    ) -> FilterConfig {
        let services = self
            .services
            .iter()
            .map(|(name, service)| ServiceConfig {
                name: name.clone(),
                class: service.class.clone(),
                clusters: Vec::new(),
                authorities: Vec::new(),
                breaker: service.breaker.clone(),
                timeout: service.timeout,
                limit: service.limit.clone(),
                canary: service.canary.clone(),
            })
            .collect();
        FilterConfig {
            zone: None,
            region: self.region.clone(),
            timetable: self.timetable.clone(),
            traffic_classes: self.traffic_classes.clone(),
            services,
            trust_canary_header: clients.trust_canary_header,
            debug_headers: clients.debug_headers,
            service_from,
        }
    }

    /// The service that a gateway sends `path` to.
    pub fn route<'m>(&self, gateway: &'m Gateway, path: &str) -> Option<&'m ServiceName> {
        let route = gateway
            .routes
            .iter()
            .find(|route| route.path.matches(path))?;
        Some(&route.service)
    }
}
