//! What of a node's own word changes its resources.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use policy::units::ServiceName;

use crate::{
    mesh::{Endpoint, Host, Mesh, Service},
    resource::NodeKey,
};

/// Outbound listener of a sidecar that names no other.
pub const DEFAULT_OUTBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15001);

/// Which Envoy this is to the mesh. Nodes with equal specs share one view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeSpec {
    /// Gateway, sidecar, or unknown.
    pub role: Role,
    /// The endpoint beside which it stands, when `node.id` names one.
    pub endpoint_id: Option<String>,
    /// The zone in which it stands: what it says, else that of its endpoint; empty for none.
    pub zone: String,
    /// Address of a sidecar's outbound listener.
    pub outbound: SocketAddr,
    /// The filter's file on the node, when it says so.
    pub filter_file: Option<FilterFile>,
}

/// A gateway or a sidecar, by `node.cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// A gateway of the mesh.
    Gateway(ServiceName),
    /// A sidecar of this service.
    Service(ServiceName),
    /// Neither: it is sent nothing.
    Unknown,
}

/// `node.metadata.mumbai_mesh.filter_path` and `.filter_sha256`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterFile {
    /// Path on the node.
    pub path: String,
    /// Lower-case hex SHA-256 of that file.
    pub sha256: String,
}

/// Ports of one sidecar's inbound side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct InboundPorts {
    pub(super) address: IpAddr,
    pub(super) listen: u16,
    pub(super) application: u16,
}

impl Role {
    /// Its name, if it is a gateway.
    pub(super) fn gateway(&self) -> Option<&ServiceName> {
        match self {
            Self::Gateway(name) => Some(name),
            Self::Service(_) | Self::Unknown => None,
        }
    }
}

impl NodeSpec {
    /// Reads a node's identity against the mesh.
    pub fn of(mesh: &Mesh, node: &NodeKey) -> Self {
        let role = match ServiceName::new(&node.cluster) {
            Ok(name) if mesh.gateways.contains_key(&name) => Role::Gateway(name),
            Ok(name) if mesh.services.contains_key(&name) => Role::Service(name),
            _ => Role::Unknown,
        };
        let beside = match &role {
            Role::Service(name) => mesh
                .services
                .get(name)
                .and_then(|service| endpoint(service, &node.id)),
            Role::Gateway(_) | Role::Unknown => None,
        };
        let zone = match (&role, beside.and_then(|endpoint| endpoint.zone.as_ref())) {
            (Role::Unknown, _) => String::new(),
            (_, Some(zone)) if node.zone.is_empty() => zone.to_string(),
            _ => node.zone.clone(),
        };
        let outbound = match role {
            Role::Service(_) => node.metadata.outbound.unwrap_or(DEFAULT_OUTBOUND),
            Role::Gateway(_) | Role::Unknown => DEFAULT_OUTBOUND,
        };
        let filter_file = match (&node.metadata.filter_path, &node.metadata.filter_sha256) {
            (Some(path), Some(sha256)) => Some(FilterFile {
                path: path.clone(),
                sha256: sha256.clone(),
            }),
            _ => None,
        };
        Self {
            role,
            endpoint_id: beside.map(|endpoint| endpoint.id.clone()),
            zone,
            outbound,
            filter_file,
        }
    }

    /// The service or gateway that it is.
    pub fn member(&self) -> Option<&ServiceName> {
        match &self.role {
            Role::Gateway(name) | Role::Service(name) => Some(name),
            Role::Unknown => None,
        }
    }

    /// The sidecar's ports: those of its own endpoint, else those that all endpoints share. None
    /// when the application's port is not known.
    pub(super) fn inbound(&self, service: &Service) -> Option<InboundPorts> {
        match &self.endpoint_id {
            Some(id) => endpoint(service, id).and_then(|endpoint| ports(service, endpoint)),
            None => shared_ports(service),
        }
    }
}

/// Whether a sidecar that stands beside no endpoint of the mesh takes calls all the same: on the ports
/// that all endpoints share.
pub fn ports_are_shared(service: &Service) -> bool {
    shared_ports(service).is_some()
}

fn shared_ports(service: &Service) -> Option<InboundPorts> {
    let mut all = service
        .endpoints
        .iter()
        .map(|endpoint| ports(service, endpoint));
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

fn ports(service: &Service, endpoint: &Endpoint) -> Option<InboundPorts> {
    Some(InboundPorts {
        address: listen_address(&endpoint.host),
        listen: endpoint.port,
        application: endpoint.app_port.or(service.port)?,
    })
}

fn endpoint<'s>(service: &'s Service, id: &str) -> Option<&'s Endpoint> {
    service.endpoints.iter().find(|endpoint| endpoint.id == id)
}

/// A sidecar listens on all addresses of its host: what callers dial may be translated on the way.
fn listen_address(host: &Host) -> IpAddr {
    match host {
        Host::Address(address) if address.is_loopback() => *address,
        Host::Address(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Host::Address(IpAddr::V4(_)) | Host::Name(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}
