//! `Mesh` -> Envoy resources as protobuf JSON. Pure and deterministic: the same mesh gives the same
//! JSON, and a resource's version is the hash of that JSON, never of protobuf bytes (whose map
//! fields have no order). What a reader sees in the golden tests is what Envoy is sent.

#[macro_use]
mod tree;

mod cluster;
mod divided;
mod encode;
mod endpoint;
mod extension;
mod health;
mod listener;
mod misfit;
mod names;
mod node;
mod observe;
mod retry;
mod route;
mod secret;
mod shapes;
mod shelf;
mod spread;
mod tls;
mod twice;
mod write;

#[cfg(test)]
pub(crate) mod imagined;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use policy::units::{ServiceName, VersionLabel};
use serde_json::Value;

pub use divided::{Divided, FleetSizes};
pub use encode::{ENVOY_DESCRIPTORS, EncodeError, Encoder, version};
pub(crate) use endpoint::{assignment, left_out, priorities};
pub use extension::{FILTER_NAME, FilterCode};
pub use health::{Asked, Unhealthy, application, checked, specifier};
pub use misfit::{Misfit, Step};
pub use node::{DEFAULT_OUTBOUND, FilterFile, NodeSpec, Role, ports_are_shared};
pub use retry::{IDEMPOTENT, Methods, kinds as kinds_of_retries};
pub use secret::{OWN, TRUSTED, secrets};
pub use shelf::{Changed, Shelf, Spot};
pub(crate) use spread::{carries, is_in_panic, shares};

use crate::{
    mesh::{Host, Mesh, Protocol, Proxies, Service},
    resource::ResourceType,
};

/// A resource before it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it is.
    pub kind: ResourceType,
    /// Its name on the wire.
    pub name: String,
    /// Protobuf JSON of the message that `kind` names, in Envoy's snake_case.
    pub body: Value,
}

impl Draft {
    fn new(kind: ResourceType, name: impl Into<String>, body: Value) -> Self {
        Self {
            kind,
            name: name.into(),
            body,
        }
    }
}

/// Everything that `node` is sent, but for its secrets. A node that is neither a gateway nor a service of
/// the mesh gets nothing. [`Shelf`] makes the same of parts that it keeps.
pub fn compile(
    mesh: &Mesh,
    node: &NodeSpec,
    code: &FilterCode,
    unhealthy: &Unhealthy,
) -> Vec<Draft> {
    let Some(called) = called(mesh, &node.role) else {
        return Vec::new();
    };
    let mut drafts: Vec<Draft> = observe::collector(mesh).into_iter().collect();
    for (name, service) in called.clone() {
        drafts.extend(cluster::clusters(mesh, name, service, &node.zone));
        let unhealthy = unhealthy.of(name);
        drafts.extend(endpoint::assignments(name, service, &node.zone, unhealthy));
    }
    drafts.extend(own(mesh, node));
    let hosts: Vec<Value> = called
        .clone()
        .map(|(name, service)| route::virtual_host(mesh, name, service))
        .collect();
    drafts.extend(routes(mesh, node.role.gateway(), hosts.iter()));
    let policies: Vec<String> = called
        .map(|(name, service)| service.policy(name).to_json().to_string())
        .collect();
    let policies = policies.iter().map(String::as_str);
    let configuration = extension::configuration(mesh, node.role.gateway()).text_with(policies);
    drafts.push(extension::filter(
        configuration,
        node.filter_file.as_ref(),
        code,
    ));
    drafts
}

/// The services that Envoys of this role may call. None where the mesh does not know it.
fn called<'m>(
    mesh: &'m Mesh,
    role: &Role,
) -> Option<impl Iterator<Item = (&'m ServiceName, &'m Service)> + Clone> {
    let uses = match role {
        Role::Gateway(name) => mesh.gateways.get(name).map(|_| None)?,
        Role::Service(name) => mesh.services.get(name)?.uses.as_ref(),
        Role::Unknown => return None,
    };
    let is_called = move |name: &ServiceName| uses.is_none_or(|uses| uses.contains(name));
    Some(
        mesh.services
            .iter()
            .filter(move |(name, _)| is_called(name)),
    )
}

/// A node's own listeners, and the cluster of its application.
fn own(mesh: &Mesh, node: &NodeSpec) -> Vec<Draft> {
    match &node.role {
        Role::Gateway(name) => {
            let gateway = mesh.gateways.get(name);
            let listener = |gateway| listener::gateway(mesh, name.as_str(), gateway);
            gateway.map(listener).into_iter().collect()
        }
        Role::Service(name) => {
            let service = mesh.services.get(name).filter(|service| service.sidecar);
            let inbound = |service| listener::inbound(mesh, name, service, node);
            let mut drafts = service.map(inbound).unwrap_or_default();
            drafts.push(listener::outbound(mesh, name.as_str(), node));
            drafts
        }
        Role::Unknown => Vec::new(),
    }
}

/// The routes of a gateway, or of sidecars: `hosts` are the virtual hosts of the services that they may
/// call.
fn routes<'v>(
    mesh: &Mesh,
    gateway: Option<&ServiceName>,
    hosts: impl Iterator<Item = &'v Value>,
) -> Option<Draft> {
    match gateway {
        Some(name) => {
            let gateway = mesh.gateways.get(name)?;
            Some(route::gateway(mesh, name.as_str(), gateway))
        }
        None => Some(route::outbound(hosts)),
    }
}

/// Everything that some node of the mesh is sent, by type and name.
pub fn names(mesh: &Mesh) -> BTreeSet<(ResourceType, String)> {
    let node = |role, endpoint_id| NodeSpec {
        role,
        endpoint_id,
        zone: String::new(),
        outbound: DEFAULT_OUTBOUND,
        filter_file: None,
    };
    let mut drafts: Vec<Draft> = observe::collector(mesh).into_iter().collect();
    for (name, service) in &mesh.services {
        drafts.extend(cluster::clusters(mesh, name, service, ""));
        drafts.extend(endpoint::assignments(name, service, "", &BTreeSet::new()));
    }
    for (name, gateway) in &mesh.gateways {
        drafts.push(listener::gateway(mesh, name.as_str(), gateway));
        drafts.push(route::gateway(mesh, name.as_str(), gateway));
    }
    for (name, service) in mesh.services.iter().filter(|(_, service)| service.sidecar) {
        for endpoint in &service.endpoints {
            let node = node(Role::Service(name.clone()), Some(endpoint.id.clone()));
            drafts.extend(listener::inbound(mesh, name, service, &node));
        }
    }
    if !mesh.services.is_empty() {
        drafts.push(listener::outbound(mesh, "", &node(Role::Unknown, None)));
        drafts.push(route::outbound(std::iter::empty()));
    }
    let mut names: BTreeSet<_> = drafts
        .into_iter()
        .map(|draft| (draft.kind, draft.name))
        .collect();
    if !names.is_empty() {
        names.insert((ResourceType::ExtensionConfig, FILTER_NAME.into()));
        names.extend([OWN, TRUSTED].map(|name| (ResourceType::Secret, name.into())));
    }
    names
}

/// A service's clusters: `SERVICE` is stable, `SERVICE|LABEL` the canary.
fn cluster_names(name: &ServiceName, service: &Service) -> Vec<(String, Option<VersionLabel>)> {
    let mut names = vec![(name.to_string(), None)];
    if let Some(canary) = &service.canary {
        names.push((
            format!("{name}|{}", canary.version),
            Some(canary.version.clone()),
        ));
    }
    names
}

/// `1.500s`: protobuf JSON's form of a duration.
fn duration(duration: std::time::Duration) -> Value {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    Value::from(format!("{seconds}.{nanos:09}s"))
}

fn ads() -> Value {
    tree!({"ads": {}, "resource_api_version": "V3"})
}

fn socket_address(ip: std::net::IpAddr, port: u16) -> Value {
    tree!({"socket_address": {"address": ip.to_string(), "port_value": port}})
}

fn host_address(host: &Host, port: u16) -> Value {
    tree!({"socket_address": {"address": host.to_string(), "port_value": port}})
}

/// How a cluster's connections are spoken on and how long they live.
fn protocol_options(proxies: &Proxies, protocol: Protocol) -> Value {
    let explicit = match protocol {
        Protocol::Http1 => tree!({"http_protocol_options": {}}),
        Protocol::Http2 => tree!({"http2_protocol_options": {
            // Finds a peer that vanished without a word.
            "connection_keepalive": {"interval": "30s", "timeout": "5s"},
        }}),
    };
    tree!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": connection_life(proxies),
        "explicit_http_config": explicit,
    }})
}

/// Not all at once: connections that were opened together would be opened anew together.
fn connection_life(proxies: &Proxies) -> Value {
    tree!({
        "max_connection_duration": duration(proxies.max_connection_duration),
        "max_connection_duration_jitter": {"value": 10.0},
    })
}
