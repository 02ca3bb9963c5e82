//! `Mesh` -> Envoy resources as protobuf JSON. Pure and deterministic: the same mesh gives the same
//! JSON, and a resource's version is the hash of that JSON, never of protobuf bytes (whose map
//! fields have no order). What a reader sees in the golden tests is what Envoy is sent.

mod cluster;
mod encode;
mod endpoint;
mod extension;
mod listener;
mod misfit;
mod node;
mod route;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::Value;

pub use encode::{ENVOY_DESCRIPTORS, EncodeError, Encoder, version};
pub use extension::{FILTER_NAME, FilterCode};
pub use misfit::{Misfit, Step};
pub use node::{DEFAULT_OUTBOUND, NodeSpec, Role};

use crate::{
    mesh::{ClientOptions, Mesh},
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

/// Everything that `node` is sent. A node that is neither a gateway nor a service of the mesh gets
/// nothing.
pub fn compile(mesh: &Mesh, node: &NodeSpec, code: &FilterCode) -> Vec<Draft> {
    match &node.role {
        Role::Gateway(name) => mesh.gateways.get(name).map_or_else(Vec::new, |gateway| {
            let mut drafts = services(mesh);
            drafts.push(listener::gateway(name.as_str(), gateway));
            drafts.push(route::gateway(mesh, name.as_str(), gateway));
            drafts.push(extension::filter(mesh, gateway.clients, node, code));
            drafts
        }),
        Role::Service(name) => mesh.services.get(name).map_or_else(Vec::new, |service| {
            let mut drafts = services(mesh);
            if service.sidecar {
                drafts.extend(listener::inbound(name, service, node));
            }
            drafts.push(listener::outbound(node));
            drafts.push(route::outbound(mesh));
            drafts.push(extension::filter(
                mesh,
                ClientOptions::default(),
                node,
                code,
            ));
            drafts
        }),
        Role::Unknown => Vec::new(),
    }
}

/// Everything that some node of the mesh is sent, by type and name.
pub fn names(mesh: &Mesh) -> BTreeSet<(ResourceType, String)> {
    let node = |role, endpoint_id| NodeSpec {
        role,
        endpoint_id,
        outbound: DEFAULT_OUTBOUND,
        filter_file: None,
    };
    let mut drafts = services(mesh);
    for (name, gateway) in &mesh.gateways {
        drafts.push(listener::gateway(name.as_str(), gateway));
        drafts.push(route::gateway(mesh, name.as_str(), gateway));
    }
    for (name, service) in mesh.services.iter().filter(|(_, service)| service.sidecar) {
        for endpoint in &service.endpoints {
            let node = node(Role::Service(name.clone()), Some(endpoint.id.clone()));
            drafts.extend(listener::inbound(name, service, &node));
        }
    }
    if !mesh.services.is_empty() {
        drafts.push(listener::outbound(&node(Role::Unknown, None)));
        drafts.push(route::outbound(mesh));
    }
    let mut names: BTreeSet<_> = drafts
        .into_iter()
        .map(|draft| (draft.kind, draft.name))
        .collect();
    if !names.is_empty() {
        names.insert((ResourceType::ExtensionConfig, FILTER_NAME.into()));
    }
    names
}

/// Clusters and endpoints: the same for every node, encoded once.
fn services(mesh: &Mesh) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (name, service) in &mesh.services {
        drafts.extend(cluster::clusters(name, service));
        drafts.extend(endpoint::assignments(name, service));
    }
    drafts
}

/// A service's clusters: `SERVICE` is stable, `SERVICE|LABEL` the canary.
fn cluster_names(
    name: &policy::units::ServiceName,
    service: &crate::mesh::Service,
) -> Vec<(String, Option<policy::units::VersionLabel>)> {
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
    serde_json::json!({"ads": {}, "resource_api_version": "V3"})
}

fn socket_address(ip: std::net::IpAddr, port: u16) -> Value {
    serde_json::json!({"socket_address": {"address": ip.to_string(), "port_value": port}})
}
