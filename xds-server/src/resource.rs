//! What travels over xDS: named, versioned bytes of one type, and one node's view of all of them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;

/// The types served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// LDS.
    Listener,
    /// RDS.
    RouteConfiguration,
    /// CDS.
    Cluster,
    /// EDS.
    ClusterLoadAssignment,
    /// SDS.
    Secret,
    /// ECDS.
    ExtensionConfig,
    /// RTDS.
    Runtime,
}

impl ResourceType {
    /// Every type, in the order in which a change is sent: who is named by others comes before
    /// them.
    pub const IN_ORDER: [Self; 7] = [
        Self::Cluster,
        Self::ClusterLoadAssignment,
        Self::Secret,
        Self::Runtime,
        Self::ExtensionConfig,
        Self::Listener,
        Self::RouteConfiguration,
    ];

    /// `type.googleapis.com/…`.
    pub fn url(self) -> &'static str {
        match self {
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => {
                "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
            }
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::ClusterLoadAssignment => {
                "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
            }
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::ExtensionConfig => {
                "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
            }
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        }
    }

    /// The type of a URL, if it is one of ours.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::IN_ORDER.into_iter().find(|kind| kind.url() == url)
    }

    /// Whether an empty list of names is a wildcard, and a state-of-the-world response the full
    /// state: both hold for LDS and CDS only.
    pub fn is_full_state(self) -> bool {
        matches!(self, Self::Listener | Self::Cluster)
    }
}

/// One resource, encoded once and shared by every stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Derived from its content: equal on every replica and after a restart.
    pub version: String,
    /// The encoded message.
    pub body: Bytes,
}

/// Everything that one node may be sent.
#[derive(Debug, Default)]
pub struct View {
    types: HashMap<ResourceType, BTreeMap<String, Arc<Resource>>>,
}

impl View {
    /// Of resources in any order. Of two with one name the later one counts.
    pub fn new(resources: Vec<(ResourceType, Arc<Resource>)>) -> Self {
        let mut types: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        for (kind, resource) in resources {
            let of_type = types.entry(kind).or_default();
            of_type.insert(resource.name.clone(), resource);
        }
        Self { types }
    }

    /// Resources of a type, by name.
    pub fn resources(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.types.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// One resource.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.types.get(&kind)?.get(name)
    }
}

/// Where sessions get a node's view from: one revision of everything.
pub trait Views: Send + Sync {
    /// Its number.
    fn revision(&self) -> u64;

    /// The view of one node.
    fn view(&self, node: &NodeKey) -> Arc<View>;
}

/// What of a node's own word decides what it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NodeKey {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.metadata.mumbai_mesh`.
    pub metadata: NodeMetadata,
}

/// `node.metadata.mumbai_mesh`, as `mumbai-mesh bootstrap` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NodeMetadata {
    /// `outbound_port`, on loopback.
    pub outbound: Option<SocketAddr>,
    /// `filter_path`: the filter's file on the node.
    pub filter_path: Option<String>,
    /// `filter_sha256`: the digest of that file.
    pub filter_sha256: Option<String>,
}

impl NodeMetadata {
    /// An outbound listener on this port of the node's loopback.
    pub fn outbound_on(port: u16) -> Option<SocketAddr> {
        (port > 0).then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }
}
