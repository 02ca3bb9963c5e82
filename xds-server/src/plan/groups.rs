//! Proxies that would be sent something else, in groups whose changes are the same. What they are sent is
//! made by the very shelf that serves them.
//!
//! A node's view follows from its member, its zone and its own endpoint, and zone and endpoint act on
//! different parts of it. So one stranger in each zone and one node beside each endpoint stand for every
//! node that there could be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use policy::units::ServiceName;
use schemars::JsonSchema;
use serde::Serialize;

use super::resources::{Changed, Comparer, Signature, signature};
use crate::{
    compile::{Encoder, FilterCode, NodeSpec, OWN, Role, Shelf, Spot, TRUSTED},
    mesh::Mesh,
    redact::Redactor,
    resource::{Collection, NodeKey, Resource, View},
};

/// Of nodes that are like no other, so many are named.
const NAMED_MAX: usize = 20;

/// Proxies whose changes are the same.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PlannedGroup")]
pub struct Group {
    /// Who they are.
    pub proxies: Vec<Proxies>,
    /// How many of them are connected; none when no server was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<usize>,
    /// What they would be sent otherwise.
    pub resources: Vec<Changed>,
}

/// Proxies of one gateway or service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(rename = "PlannedProxies")]
pub struct Proxies {
    /// Gateways, or sidecars of a service.
    pub kind: ProxyKind,
    /// The gateway or service.
    pub name: String,
    /// In these zones alone, where zones make a difference; an empty one is that of all others. Of sidecars
    /// those beside none of the service's endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Beside these endpoints alone, where that makes a difference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Connected ones that are like no other of their member, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
}

/// Gateways, or sidecars of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    /// A gateway.
    Gateway,
    /// Sidecars.
    Sidecars,
}

/// What is laid over what a mesh says to a node.
pub type Over<'o> = dyn Fn(&Arc<View>, &NodeKey) -> Arc<View> + 'o;

/// What only a running server knows.
pub struct Fleet<'o> {
    /// The nodes that are connected.
    pub nodes: Vec<NodeKey>,
    /// Raw resources.
    pub over: &'o Over<'o>,
}

/// Who stands for whom.
#[derive(Clone)]
enum Stands {
    /// Nodes in a zone that are beside none of the mesh's endpoints.
    Zone(String),
    /// A node beside an endpoint.
    Endpoint(String),
    /// Itself.
    Connected,
}

struct Node {
    key: NodeKey,
    kind: ProxyKind,
    stands: Stands,
}

/// The groups that differ.
pub(super) fn groups(
    before: &Arc<Mesh>,
    after: &Arc<Mesh>,
    encoder: &Arc<Encoder>,
    redactor: &Redactor,
    fleet: Option<&Fleet<'_>>,
) -> Vec<Group> {
    let mut nodes = representatives(before, after);
    let connected = fleet.map_or(&[][..], |fleet| &fleet.nodes);
    nodes.extend(connected.iter().filter_map(|key| {
        Some(Node {
            key: key.clone(),
            kind: kind(before, after, &key.cluster)?,
            stands: Stands::Connected,
        })
    }));
    let mut views = Views::new(before, encoder);
    let olds = views.all(before, &nodes, fleet);
    views.next(after);
    let news = views.all(after, &nodes, fleet);
    let mut comparer = Comparer::new(redactor);
    let mut by_version: HashMap<Signature, Found> = HashMap::new();
    for (number, (old, new)) in olds.iter().zip(&news).enumerate() {
        let pairs = comparer.pairs(old, new);
        let group = by_version
            .entry(signature(&pairs))
            .or_insert_with(|| Found {
                resources: comparer.changed(&pairs),
                nodes: Vec::new(),
            });
        group.nodes.push(number);
    }
    let found = told_alike(by_version.into_values());
    let split = split_members(&nodes, &found);
    let differing = found
        .into_iter()
        .filter(|group| !group.resources.is_empty());
    let mut groups: Vec<Group> = differing
        .map(
            |Found {
                 resources,
                 nodes: of,
             }| {
                let members: Vec<&Node> = of.iter().map(|number| &nodes[*number]).collect();
                let connected = members.iter().filter(|node| node.is_connected()).count();
                Group {
                    proxies: proxies(&members, &split),
                    connected: fleet.is_some().then_some(connected),
                    resources,
                }
            },
        )
        .collect();
    groups.sort_by(|one, other| one.proxies.cmp(&other.proxies));
    groups
}

/// Nodes with the same changes.
struct Found {
    resources: Vec<Changed>,
    nodes: Vec<usize>,
}

/// A gateway and a sidecar are sent different filters, and what changes in both may be the same.
fn told_alike(groups: impl Iterator<Item = Found>) -> Vec<Found> {
    let mut alike: HashMap<String, Found> = HashMap::new();
    for group in groups {
        // Texts and values alone: it cannot fail.
        let told = serde_json::to_string(&group.resources).unwrap_or_default();
        match alike.entry(told) {
            Entry::Vacant(first) => drop(first.insert(group)),
            Entry::Occupied(mut known) => known.get_mut().nodes.extend(group.nodes),
        }
    }
    let mut alike: Vec<Found> = alike.into_values().collect();
    for group in &mut alike {
        group.nodes.sort_unstable();
    }
    alike
}

impl Node {
    fn is_connected(&self) -> bool {
        matches!(self.stands, Stands::Connected)
    }
}

/// Members whose nodes do not all have the same changes.
fn split_members(nodes: &[Node], found: &[Found]) -> BTreeSet<Arc<str>> {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for group in found {
        let members: BTreeSet<&str> = group
            .nodes
            .iter()
            .map(|number| &*nodes[*number].key.cluster)
            .collect();
        for member in members {
            *groups.entry(member).or_default() += 1;
        }
    }
    let split = groups.into_iter().filter(|(_, groups)| *groups > 1);
    split.map(|(member, _)| member.into()).collect()
}

/// Who the nodes of one group are.
fn proxies(nodes: &[&Node], split: &BTreeSet<Arc<str>>) -> Vec<Proxies> {
    let mut members: BTreeMap<(ProxyKind, &str), Proxies> = BTreeMap::new();
    for node in nodes {
        let name: &str = &node.key.cluster;
        let proxies = members.entry((node.kind, name)).or_insert_with(|| Proxies {
            kind: node.kind,
            name: name.into(),
            zones: Vec::new(),
            endpoints: Vec::new(),
            nodes: Vec::new(),
        });
        if split.contains(name) {
            match &node.stands {
                Stands::Zone(zone) => proxies.zones.push(zone.clone()),
                Stands::Endpoint(id) => proxies.endpoints.push(id.clone()),
                Stands::Connected if proxies.nodes.len() < NAMED_MAX => {
                    proxies.nodes.push(node.key.id.to_string());
                }
                Stands::Connected => {}
            }
        }
    }
    for proxies in members.values_mut() {
        let is_like_others = !proxies.zones.is_empty() || !proxies.endpoints.is_empty();
        if is_like_others {
            proxies.nodes.clear();
        }
    }
    members.into_values().collect()
}

/// What a name is; in the mesh that is offered, else in the one in force.
fn kind(before: &Mesh, after: &Mesh, name: &str) -> Option<ProxyKind> {
    let name = ServiceName::new(name).ok()?;
    [after, before].into_iter().find_map(|mesh| {
        if mesh.gateways.contains_key(&name) {
            return Some(ProxyKind::Gateway);
        }
        mesh.services
            .contains_key(&name)
            .then_some(ProxyKind::Sidecars)
    })
}

/// Nodes that stand for all that there could be.
fn representatives(before: &Mesh, after: &Mesh) -> Vec<Node> {
    let both = [before, after];
    let services = both.into_iter().flat_map(|mesh| &mesh.services);
    let endpoints = || services.clone().flat_map(|(_, service)| &service.endpoints);
    let zones = endpoints().filter_map(|endpoint| endpoint.zone.as_ref());
    let zones: BTreeSet<&str> = zones.map(|zone| zone.as_str()).chain([""]).collect();
    let gateways = both.into_iter().flat_map(|mesh| mesh.gateways.keys());
    let names: BTreeSet<&ServiceName> = gateways
        .chain(services.clone().map(|(name, _)| name))
        .collect();
    let mut nodes = Vec::new();
    for name in names {
        let Some(kind) = kind(before, after, name.as_str()) else {
            continue;
        };
        let node = |id: &str, zone: &str, stands| Node {
            key: NodeKey {
                id: id.into(),
                cluster: name.as_str().into(),
                zone: zone.into(),
                ..NodeKey::default()
            },
            kind,
            stands,
        };
        // No endpoint's id is empty.
        nodes.extend(
            zones
                .iter()
                .map(|zone| node("", zone, Stands::Zone((*zone).into()))),
        );
        let own = both.into_iter().filter_map(|mesh| mesh.services.get(name));
        let ids: BTreeSet<&str> = own
            .flat_map(|service| &service.endpoints)
            .map(|endpoint| endpoint.id.as_str())
            .collect();
        nodes.extend(
            ids.iter()
                .map(|id| node(id, "", Stands::Endpoint((*id).into()))),
        );
    }
    nodes
}

/// What nodes are sent, by a shelf of its own.
struct Views {
    shelf: Shelf,
    /// Held, so that what stays is the very same after the change.
    spots: Vec<Spot>,
    secrets: HashMap<(ServiceName, String), Arc<Collection>>,
}

impl Views {
    fn new(mesh: &Arc<Mesh>, encoder: &Arc<Encoder>) -> Self {
        // No change of a mesh changes the filter's code, so any will do.
        let code = Arc::new(FilterCode::new(bytes::Bytes::from_static(b"\0asm")));
        Self {
            shelf: Shelf::new(Arc::clone(mesh), code, Arc::clone(encoder)),
            spots: Vec::new(),
            secrets: HashMap::new(),
        }
    }

    fn next(&mut self, mesh: &Arc<Mesh>) {
        self.shelf.next(Arc::clone(mesh), Arc::default());
    }

    fn all(&mut self, mesh: &Mesh, nodes: &[Node], fleet: Option<&Fleet<'_>>) -> Vec<Arc<View>> {
        let specs: Vec<NodeSpec> = nodes
            .iter()
            .map(|node| NodeSpec::of(mesh, &node.key))
            .collect();
        let spots: Vec<Spot> = specs.iter().map(|spec| self.shelf.spot(spec)).collect();
        let mut views = Vec::with_capacity(nodes.len());
        for (number, node) in nodes.iter().enumerate() {
            let secrets = self.secrets(mesh, &specs[number].role);
            let base = self.shelf.view(&spots[number], &secrets);
            views.push(match fleet {
                Some(fleet) => (fleet.over)(&base, &node.key),
                None => base,
            });
        }
        self.spots = spots;
        views
    }

    /// Nobody can foretell a certificate. It is another one when its identity is.
    fn secrets(&mut self, mesh: &Mesh, role: &Role) -> Arc<Collection> {
        let (Role::Gateway(name) | Role::Service(name)) = role else {
            return Arc::default();
        };
        let domain = mesh.trust_domain.as_str();
        let secrets = self
            .secrets
            .entry((name.clone(), domain.into()))
            .or_insert_with(|| {
                let secret =
                    |of: &str, identity: &str| Arc::new(Resource::secret(of, identity, b""));
                let own = secret(OWN, &format!("{domain}/{name}"));
                Arc::new(Collection::new(vec![own, secret(TRUSTED, "")]))
            });
        Arc::clone(secrets)
    }
}
