//! What travels over xDS: named, versioned bytes of one type, and one node's view of all of them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use zeroize::Zeroizing;

/// The types served, in the order in which a change is sent: who is named by others comes before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    ClusterLoadAssignment,
    /// SDS.
    Secret,
    /// RTDS.
    Runtime,
    /// ECDS.
    ExtensionConfig,
    /// LDS.
    Listener,
    /// RDS.
    RouteConfiguration,
}

impl ResourceType {
    /// Every type, in its order.
    pub const IN_ORDER: [Self; 7] = [
        Self::Cluster,
        Self::ClusterLoadAssignment,
        Self::Secret,
        Self::Runtime,
        Self::ExtensionConfig,
        Self::Listener,
        Self::RouteConfiguration,
    ];

    /// Types whose resources other types name, and which name none themselves.
    pub const NAMED_BY_OTHERS: [Self; 4] = [
        Self::Cluster,
        Self::ClusterLoadAssignment,
        Self::Secret,
        Self::Runtime,
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

    /// The name of its discovery service: `LDS`, `CDS`, ….
    pub fn api(self) -> &'static str {
        match self {
            Self::Listener => "LDS",
            Self::RouteConfiguration => "RDS",
            Self::Cluster => "CDS",
            Self::ClusterLoadAssignment => "EDS",
            Self::Secret => "SDS",
            Self::ExtensionConfig => "ECDS",
            Self::Runtime => "RTDS",
        }
    }

    /// The type of a URL, if it is one of ours.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::IN_ORDER.into_iter().find(|kind| kind.url() == url)
    }

    /// Whether other types name resources of this one: so it is told before them, and taken away after
    /// them.
    pub fn is_named_by_others(self) -> bool {
        Self::NAMED_BY_OTHERS.contains(&self)
    }

    /// Whether an empty list of names is a wildcard, and a state-of-the-world response the full
    /// state: both hold for LDS and CDS only.
    pub fn is_full_state(self) -> bool {
        matches!(self, Self::Listener | Self::Cluster)
    }
}

/// One resource, encoded once and shared by every stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Arc<str>,
    /// Derived from its content: equal on every replica and after a restart.
    pub version: Box<str>,
    /// Clusters that it names, in their order; of a cluster none.
    pub clusters: Box<[Arc<str>]>,
    /// Its entry in a delta response. Both variants have their resources in field 2, and an entry of
    /// the state of the world is nothing but the message that ends a delta entry: so one buffer
    /// serves both.
    entry: Bytes,
    /// Where in `entry` the state of the world's entry begins.
    plain_at: usize,
    /// Where in `entry` the message itself begins.
    body_at: usize,
    is_by_name_only: bool,
}

impl fmt::Debug for Resource {
    /// Without its content, which may hold a private key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.name, self.version)
    }
}

impl Resource {
    /// Of an encoded message of this type.
    pub fn new(kind: ResourceType, name: &str, version: &str, body: &[u8]) -> Self {
        Self::around(kind, name, version, body, Bytes::from)
    }

    /// Of an encoded Secret: no wildcard brings it, and its bytes are wiped when nobody holds them any
    /// more.
    pub fn secret(name: &str, version: &str, body: &[u8]) -> Self {
        let wiped = |entry| Bytes::from_owner(Zeroizing::new(entry));
        Self {
            is_by_name_only: true,
            ..Self::around(ResourceType::Secret, name, version, body, wiped)
        }
    }

    /// Whether only who names it is sent it.
    pub fn is_by_name_only(&self) -> bool {
        self.is_by_name_only
    }

    fn around(
        kind: ResourceType,
        name: &str,
        version: &str,
        body: &[u8],
        keep: impl FnOnce(Vec<u8>) -> Bytes,
    ) -> Self {
        const RESOURCES: u32 = 2;
        let any_bytes = field_bytes(1, kind.url().len()) + field_bytes(2, body.len());
        let names_bytes = field_bytes(3, name.len()) + field_bytes(1, version.len());
        let entry_bytes = names_bytes + field_bytes(2, any_bytes);
        let mut entry = Vec::with_capacity(field_bytes(RESOURCES, entry_bytes));
        put_key(&mut entry, RESOURCES, entry_bytes);
        put_field(&mut entry, 3, name.as_bytes());
        put_field(&mut entry, 1, version.as_bytes());
        let plain_at = entry.len();
        put_key(&mut entry, RESOURCES, any_bytes);
        put_field(&mut entry, 1, kind.url().as_bytes());
        put_key(&mut entry, 2, body.len());
        let body_at = entry.len();
        entry.extend_from_slice(body);
        Self {
            name: name.into(),
            version: version.into(),
            clusters: Box::default(),
            entry: keep(entry),
            plain_at,
            body_at,
            is_by_name_only: false,
        }
    }

    /// This one, which names these clusters.
    #[must_use]
    pub fn naming(mut self, clusters: Box<[Arc<str>]>) -> Self {
        self.clusters = clusters;
        self
    }

    /// The encoded message.
    pub fn body(&self) -> Bytes {
        self.entry.slice(self.body_at..)
    }

    /// `DeltaDiscoveryResponse.resources`, one entry with its key and length.
    pub fn delta_entry(&self) -> &[u8] {
        &self.entry
    }

    /// `DiscoveryResponse.resources`, one entry with its key and length.
    pub fn plain_entry(&self) -> &[u8] {
        &self.entry[self.plain_at..]
    }
}

/// Resources of one type, sorted by name; each name once. Never changes: a change makes another one,
/// which shares what stayed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collection {
    resources: Vec<Arc<Resource>>,
    /// What one client is not told of, though it is there, by name. Empty but for clients that rejected
    /// something.
    withheld: Box<[(Arc<str>, Instead)]>,
}

/// What a client that must be told of something withheld is told instead.
pub type Instead = Option<Arc<Resource>>;

impl Collection {
    /// Of resources in any order. Of two with one name the later one counts.
    pub fn new(mut resources: Vec<Arc<Resource>>) -> Self {
        // Stable, so the later one of a name stays behind; then the earlier one goes.
        resources.sort_by(|left, right| left.name.cmp(&right.name));
        resources.reverse();
        resources.dedup_by(|later, kept| later.name == kept.name);
        resources.reverse();
        Self {
            resources,
            withheld: Box::default(),
        }
    }

    /// One resource.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let place = self
            .resources
            .binary_search_by(|resource| (*resource.name).cmp(name));
        self.resources.get(place.ok()?)
    }

    /// All, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Resource>> {
        self.resources.iter()
    }

    /// This one, but for these, of which each name comes once.
    #[must_use]
    pub fn withholding(&self, mut withheld: Vec<(Arc<str>, Instead)>) -> Self {
        withheld.sort_by(|(left, _), (right, _)| left.cmp(right));
        let resources = self.resources.clone();
        let withheld = withheld.into();
        Self {
            resources,
            withheld,
        }
    }

    /// What is told instead of this one, if it is withheld.
    pub fn withheld(&self, name: &str) -> Option<&Instead> {
        if self.withheld.is_empty() {
            return None;
        }
        let place = self
            .withheld
            .binary_search_by(|(known, _)| (**known).cmp(name));
        self.withheld.get(place.ok()?).map(|(_, instead)| instead)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// Whether names and versions are the same.
    pub fn has_the_same_as(&self, other: &Self) -> bool {
        let same = |(ours, theirs): (&Arc<Resource>, &Arc<Resource>)| {
            Arc::ptr_eq(ours, theirs)
                || (ours.name == theirs.name && ours.version == theirs.version)
        };
        self.len() == other.len() && self.iter().zip(other.iter()).all(same)
    }

    /// This one with some removed and then others put in or replaced.
    #[must_use]
    pub fn with<'n>(
        &self,
        put: impl IntoIterator<Item = Arc<Resource>>,
        remove: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let mut resources = self.resources.clone();
        let place = |resources: &[Arc<Resource>], name: &str| {
            resources.binary_search_by(|resource| (*resource.name).cmp(name))
        };
        for name in remove {
            if let Ok(at) = place(&resources, name) {
                resources.remove(at);
            }
        }
        for resource in put {
            match place(&resources, &resource.name) {
                Ok(at) => resources[at] = resource,
                Err(at) => resources.insert(at, resource),
            }
        }
        Self {
            resources,
            withheld: Box::default(),
        }
    }
}

/// Everything that one node may be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// In the order of [`ResourceType::IN_ORDER`].
    types: [Arc<Collection>; ResourceType::IN_ORDER.len()],
}

impl View {
    /// Of resources in any order. Of two with one name the later one counts.
    pub fn new(resources: Vec<(ResourceType, Arc<Resource>)>) -> Self {
        let mut types: [Vec<Arc<Resource>>; ResourceType::IN_ORDER.len()] = Default::default();
        for (kind, resource) in resources {
            types[kind as usize].push(resource);
        }
        Self {
            types: types.map(|resources| Arc::new(Collection::new(resources))),
        }
    }

    /// Of collections; of a type that has none, nothing.
    pub fn of(collections: impl IntoIterator<Item = (ResourceType, Arc<Collection>)>) -> Self {
        static NOTHING: LazyLock<Arc<Collection>> = LazyLock::new(Arc::default);
        let mut types = std::array::from_fn(|_| Arc::clone(&NOTHING));
        for (kind, collection) in collections {
            types[kind as usize] = collection;
        }
        Self { types }
    }

    /// Resources of a type.
    pub fn collection(&self, kind: ResourceType) -> &Arc<Collection> {
        &self.types[kind as usize]
    }

    /// This one with another collection of a type.
    #[must_use]
    pub fn with(&self, kind: ResourceType, collection: Arc<Collection>) -> Self {
        let mut view = self.clone();
        view.types[kind as usize] = collection;
        view
    }

    /// Whether both are made of the very same collections. Equal ones in different places do not
    /// count: this is asked for every node at every change.
    pub fn is_the_same_as(&self, other: &Self) -> bool {
        let mut pairs = self.types.iter().zip(&other.types);
        pairs.all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
    }

    /// Resources of a type, by name.
    pub fn resources(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.collection(kind).iter()
    }

    /// One resource.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.collection(kind).get(name)
    }
}

/// What of a node's own word decides what it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NodeKey {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.locality.zone`; empty when it says none, or one that no endpoint could have.
    pub zone: String,
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

fn field_bytes(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

fn put_key(out: &mut Vec<u8>, tag: u32, length: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Appends a length-delimited protobuf field.
pub(crate) fn put_field(out: &mut Vec<u8>, tag: u32, content: &[u8]) {
    put_key(out, tag, content.len());
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse,
    };
    use prost::Message;

    use super::*;

    #[test]
    fn one_buffer_holds_a_resource_as_both_variants_send_it() {
        let kind = ResourceType::Cluster;
        let body = vec![7; 300];
        let resource = Resource::new(kind, "orders", "v1", &body);
        assert_eq!(resource.body(), body);

        let plain = DiscoveryResponse::decode(resource.plain_entry()).unwrap();
        assert_eq!(plain.resources.len(), 1);
        assert_eq!(plain.resources[0].type_url, kind.url());
        assert_eq!(plain.resources[0].value, body);

        let delta = DeltaDiscoveryResponse::decode(resource.delta_entry()).unwrap();
        assert_eq!(delta.resources.len(), 1);
        let entry = &delta.resources[0];
        assert_eq!((&*entry.name, &*entry.version), ("orders", "v1"));
        assert_eq!(entry.resource, Some(plain.resources[0].clone()));
    }

    #[test]
    fn a_collection_is_sorted_and_holds_each_name_once() {
        let one = |name: &str, version: &str| {
            Arc::new(Resource::new(ResourceType::Cluster, name, version, b""))
        };
        let told = |collection: &Collection| -> Vec<String> {
            let told = collection.iter();
            told.map(|one| format!("{}@{}", one.name, one.version))
                .collect()
        };
        let first = Collection::new(vec![one("b", "1"), one("a", "1"), one("b", "2")]);
        assert_eq!(told(&first), ["a@1", "b@2"]);
        let next = first.with([one("c", "1"), one("b", "3")], ["a", "unknown"]);
        assert_eq!(told(&next), ["b@3", "c@1"]);
        assert!(next.get("a").is_none());
        assert_eq!(told(&first), ["a@1", "b@2"], "the old one stays as it was");
    }
}
