//! The validated mesh: what every later step may rely on. It embeds policy's types, so that a rule
//! means the same in the file, in the filter and in `explain`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use policy::{
    breaker::BreakerPlan,
    canary::CanarySplit,
    limit::Limit,
    timetable::Timetable,
    traffic_class::TrafficClass,
    units::{ClassName, ServiceName, VersionLabel, ZoneName},
    wire::{FilterConfig, ServiceConfig, ServiceSource},
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

/// A listener for clients from outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Address and port of the public listener.
    pub listen: SocketAddr,
    /// What its clients may choose and are told.
    pub clients: ClientOptions,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// What the clients of a listener may choose and are told. Nothing unless the file says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientOptions {
    /// `x-mumbai-canary` chooses the version.
    pub trust_canary_header: bool,
    /// Responses tell the decision.
    pub debug_headers: bool,
}

/// Which requests go to which service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What the path must be.
    pub path: PathMatch,
    /// The service called.
    pub service: ServiceName,
}

/// How a route matches the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Whole path segments: `/orders` matches `/orders` and `/orders/7`, not `/orders-old`.
    Prefix(String),
    /// The whole path, without its query.
    Exact(String),
}

impl PathMatch {
    /// Whether `path` (a query string is ignored) matches, as Envoy's route matching does.
    pub fn matches(&self, path: &str) -> bool {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) if prefix == "/" => path.starts_with('/'),
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments_as_envoys_path_separated_prefix_does() {
        let orders = PathMatch::Prefix("/orders".into());
        assert!(orders.matches("/orders"));
        assert!(orders.matches("/orders/7?x=1"));
        assert!(orders.matches("/orders?x=1"));
        assert!(!orders.matches("/orders-old"));
        assert!(PathMatch::Prefix("/".into()).matches("/anything"));
        assert!(!PathMatch::Exact("/pay".into()).matches("/pay/1"));
    }
}
