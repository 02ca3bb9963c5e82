//! Views of the mesh in force, put together from parts. A part is made anew only when something that it is
//! made of has changed, so a changed endpoint costs what depends on it, and not the mesh.

mod parts;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use policy::units::ServiceName;
use tracing::error;

use self::parts::{Change, Parts};
use super::{
    Draft, Encoder, FilterCode, NodeSpec, Role, Unhealthy, cluster_names, extension,
    node::{FilterFile, InboundPorts},
    own, routes,
};
use crate::{
    mesh::Mesh,
    resource::{Collection, Resource, ResourceType, View},
};

/// Node specs whose views are kept; beyond it views are still right, only not kept. A node chooses parts of
/// its spec, so what it says must not fill our memory.
const NODES_MAX: usize = 20_000;

/// Views by what makes nodes differ: ten thousand sidecars of one service cost one.
pub struct Shelf {
    mesh: Arc<Mesh>,
    code: Arc<FilterCode>,
    encoder: Arc<Encoder>,
    /// Counts meshes. What was not asked for in one of them is forgotten with the next.
    number: u64,
    /// How this mesh differs from the one before.
    change: Change,
    parts: Parts,
    audiences: HashMap<Audience, Shared>,
    owns: HashMap<OwnKey, Own>,
    nodes: HashMap<NodeSpec, Node>,
    /// Of nodes that are sent nothing.
    nothing: Arc<View>,
    /// By the addresses of what it is made of, which it holds.
    with_inbound: HashMap<(usize, usize), WithInbound>,
}

/// Which services and gateways are others than before.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// Any of them may be.
    All,
    /// These alone, the new and the removed ones among them.
    Members(BTreeSet<ServiceName>),
}

impl Changed {
    /// Whether the service or gateway of this name may be another one.
    pub fn may_be_of(&self, member: &str) -> bool {
        match self {
            Self::All => true,
            Self::Members(members) => members.iter().any(|name| name.as_str() == member),
        }
    }
}

/// Nodes that are sent the same but for their own listeners.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Audience {
    role: AudienceRole,
    zone: String,
    filter_file: Option<FilterFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum AudienceRole {
    Gateway(ServiceName),
    /// Sidecars that may call these services; all of them when none are named.
    Sidecars(Option<BTreeSet<ServiceName>>),
}

impl AudienceRole {
    fn gateway(&self) -> Option<&ServiceName> {
        match self {
            Self::Gateway(name) => Some(name),
            Self::Sidecars(_) => None,
        }
    }

    fn calls(&self, service: &ServiceName) -> bool {
        match self {
            Self::Sidecars(Some(uses)) => uses.contains(service),
            Self::Gateway(_) | Self::Sidecars(None) => true,
        }
    }
}

/// What an audience is sent.
#[derive(Clone)]
struct Shared {
    number: u64,
    clusters: Arc<Collection>,
    endpoints: Arc<Collection>,
    routes: Arc<Collection>,
    filter: Arc<Collection>,
}

/// What tells one node's own listeners from another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OwnKey {
    member: ServiceName,
    inbound: Option<InboundPorts>,
    outbound: SocketAddr,
}

/// A node's own listeners, and the cluster of its application.
#[derive(Clone)]
struct Own {
    number: u64,
    listeners: Arc<Collection>,
    inbound: Option<Arc<Resource>>,
}

struct Node {
    number: u64,
    audience: Audience,
    view: Arc<View>,
}

struct WithInbound {
    shared: Arc<Collection>,
    _inbound: Arc<Resource>,
    merged: Arc<Collection>,
}

impl Shelf {
    /// Views of this mesh, of whose endpoints nothing is known yet.
    pub fn new(mesh: Arc<Mesh>, code: Arc<FilterCode>, encoder: Arc<Encoder>) -> Self {
        let parts = Parts::new(&mesh, Arc::default());
        Self {
            mesh,
            code,
            encoder,
            number: 0,
            change: Change::All,
            parts,
            audiences: HashMap::new(),
            owns: HashMap::new(),
            nodes: HashMap::new(),
            nothing: Arc::default(),
            with_inbound: HashMap::new(),
        }
    }

    /// The mesh in force.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Puts another mesh in force, or the same while other endpoints are unhealthy.
    pub fn next(&mut self, mesh: Arc<Mesh>, unhealthy: Arc<Unhealthy>) -> Changed {
        let asked = self.number;
        self.audiences.retain(|_, shared| shared.number == asked);
        self.owns.retain(|_, own| own.number == asked);
        self.nodes.retain(|_, node| node.number == asked);
        self.with_inbound
            .retain(|_, merged| Arc::strong_count(&merged.shared) > 1);
        self.number += 1;
        self.change = self.parts.next(&self.mesh, &mesh, unhealthy);
        self.mesh = mesh;
        self.encoder.forget_unused();
        match &self.change {
            Change::All => Changed::All,
            Change::Members { members, .. } => Changed::Members(members.clone()),
        }
    }

    /// What nodes of a spec are sent, with these secrets.
    pub fn view(&mut self, spec: &NodeSpec, secrets: &Arc<Collection>) -> Arc<View> {
        if let Some(node) = self.nodes.get(spec)
            && node.number == self.number
            && Arc::ptr_eq(node.view.collection(ResourceType::Secret), secrets)
        {
            return Arc::clone(&node.view);
        }
        let Some(member) = spec.member().cloned() else {
            return Arc::clone(&self.nothing);
        };
        let known = self.nodes.remove(spec);
        let audience = match &known {
            Some(node) if !self.change.is_of(&member) => node.audience.clone(),
            _ => match self.audience(spec) {
                Some(audience) => audience,
                None => return Arc::clone(&self.nothing),
            },
        };
        let shared = self.shared(&audience);
        let own = self.own(spec, member);
        let secrets = Arc::clone(secrets);
        let clusters = self.clusters(&shared.clusters, own.inbound.as_ref());
        let view = View::clone(&self.nothing)
            .with(ResourceType::Cluster, clusters)
            .with(ResourceType::ClusterLoadAssignment, shared.endpoints)
            .with(ResourceType::Listener, own.listeners)
            .with(ResourceType::RouteConfiguration, shared.routes)
            .with(ResourceType::ExtensionConfig, shared.filter)
            .with(ResourceType::Secret, secrets);
        let view = match known {
            Some(node) if node.view.is_the_same_as(&view) => node.view,
            _ => Arc::new(view),
        };
        if self.nodes.len() < NODES_MAX {
            let node = Node {
                number: self.number,
                audience,
                view: Arc::clone(&view),
            };
            self.nodes.insert(spec.clone(), node);
        }
        view
    }

    fn audience(&self, spec: &NodeSpec) -> Option<Audience> {
        let role = match &spec.role {
            Role::Gateway(name) => {
                self.mesh.gateways.get(name)?;
                AudienceRole::Gateway(name.clone())
            }
            Role::Service(name) => {
                AudienceRole::Sidecars(self.mesh.services.get(name)?.uses.clone())
            }
            Role::Unknown => return None,
        };
        Some(Audience {
            role,
            zone: spec.zone.clone(),
            filter_file: spec.filter_file.clone(),
        })
    }

    fn shared(&mut self, audience: &Audience) -> Shared {
        let before = match self.audiences.get(audience) {
            Some(shared) if shared.number == self.number => return shared.clone(),
            before => before.cloned(),
        };
        let shared = match (&self.change, before) {
            (Change::Members { .. }, Some(before)) => self.changed(audience, before),
            (_, before) => {
                let (clusters, endpoints) = self.services(audience);
                let shared = Shared {
                    number: self.number,
                    clusters,
                    endpoints,
                    routes: self.routes(audience),
                    filter: self.filter(audience),
                };
                match before {
                    Some(before) => shared.keeping(&before),
                    None => shared,
                }
            }
        };
        self.audiences.insert(audience.clone(), shared.clone());
        shared
    }

    /// What an audience is sent, where only some services and gateways are others than before.
    fn changed(&mut self, audience: &Audience, before: Shared) -> Shared {
        let Change::Members {
            members,
            gone,
            hosts,
            policies,
        } = &self.change
        else {
            return before;
        };
        let calls = |names: &BTreeSet<ServiceName>| {
            let role = &audience.role;
            names.iter().any(|name| role.calls(name))
        };
        let gateway = audience.role.gateway();
        let is_itself = gateway.is_some_and(|name| members.contains(name));
        let (new_routes, new_filter) = (is_itself || calls(hosts), is_itself || calls(policies));
        let called = members.iter().filter(|name| audience.role.calls(name));
        let (mut clusters, mut endpoints) = (Vec::new(), Vec::new());
        for name in called {
            let service = self
                .parts
                .service(&self.mesh, name, &audience.zone, &self.encoder);
            clusters.extend(service.clusters.iter().cloned());
            endpoints.extend(service.endpoints.iter().cloned());
        }
        let with = |before: &Arc<Collection>, put: Vec<Arc<Resource>>| {
            let new: HashSet<&str> = put.iter().map(|resource| &*resource.name).collect();
            let gone: Vec<&str> = gone
                .iter()
                .map(String::as_str)
                .filter(|name| before.get(name).is_some() && !new.contains(name))
                .collect();
            let is_known = |resource: &Arc<Resource>| {
                let known = before.get(&resource.name);
                known.is_some_and(|known| Arc::ptr_eq(known, resource))
            };
            if gone.is_empty() && put.iter().all(is_known) {
                return Arc::clone(before);
            }
            let gone: Vec<String> = gone.into_iter().map(String::from).collect();
            Arc::new(before.with(put, gone.iter().map(String::as_str)))
        };
        let shared = Shared {
            number: self.number,
            clusters: with(&before.clusters, clusters),
            endpoints: with(&before.endpoints, endpoints),
            routes: match new_routes {
                true => self.routes(audience),
                false => Arc::clone(&before.routes),
            },
            filter: match new_filter {
                true => self.filter(audience),
                false => Arc::clone(&before.filter),
            },
        };
        shared.keeping(&before)
    }

    /// Clusters and endpoints of all that an audience may call.
    fn services(&mut self, audience: &Audience) -> (Arc<Collection>, Arc<Collection>) {
        let collector = super::observe::collector(&self.mesh);
        let mut clusters = encoded(&self.encoder, collector);
        let mut endpoints = Vec::new();
        let mesh = Arc::clone(&self.mesh);
        for name in mesh
            .services
            .keys()
            .filter(|name| audience.role.calls(name))
        {
            let service = self
                .parts
                .service(&mesh, name, &audience.zone, &self.encoder);
            clusters.extend(service.clusters.iter().cloned());
            endpoints.extend(service.endpoints.iter().cloned());
        }
        let collection = |resources| Arc::new(Collection::new(resources));
        (collection(clusters), collection(endpoints))
    }

    fn routes(&self, audience: &Audience) -> Arc<Collection> {
        let hosts = self.parts.virtual_hosts(|name| audience.role.calls(name));
        let draft = routes(&self.mesh, audience.role.gateway(), hosts);
        Arc::new(Collection::new(encoded(&self.encoder, draft)))
    }

    fn filter(&self, audience: &Audience) -> Arc<Collection> {
        let configuration = extension::configuration(&self.mesh, audience.role.gateway());
        let policies = self.parts.policies(|name| audience.role.calls(name));
        let text = configuration.text_with(policies);
        let draft = extension::filter(&text, audience.filter_file.as_ref(), &self.code);
        Arc::new(Collection::new(encoded(&self.encoder, [draft])))
    }

    fn own(&mut self, spec: &NodeSpec, member: ServiceName) -> Own {
        let service = match &spec.role {
            Role::Service(name) => self.mesh.services.get(name),
            Role::Gateway(_) | Role::Unknown => None,
        };
        let key = OwnKey {
            inbound: service.and_then(|service| spec.inbound(service)),
            outbound: spec.outbound,
            member,
        };
        if let Some(own) = self.owns.get_mut(&key)
            && (own.number == self.number || !self.change.is_of(&key.member))
        {
            own.number = self.number;
            return own.clone();
        }
        let (mut listeners, mut inbound) = (Vec::new(), None);
        for draft in own(&self.mesh, spec) {
            let is_cluster = draft.kind == ResourceType::Cluster;
            for resource in encoded(&self.encoder, [draft]) {
                match is_cluster {
                    true => inbound = Some(resource),
                    false => listeners.push(resource),
                }
            }
        }
        let mut own = Own {
            number: self.number,
            listeners: Arc::new(Collection::new(listeners)),
            inbound,
        };
        if let Some(before) = self.owns.get(&key) {
            keep(&mut own.listeners, &before.listeners);
        }
        if self.owns.len() < NODES_MAX {
            self.owns.insert(key, own.clone());
        }
        own
    }

    /// An audience's clusters and the one of a node's own application.
    fn clusters(
        &mut self,
        shared: &Arc<Collection>,
        inbound: Option<&Arc<Resource>>,
    ) -> Arc<Collection> {
        let Some(inbound) = inbound else {
            return Arc::clone(shared);
        };
        let key = (
            Arc::as_ptr(shared).addr(),
            Arc::as_ptr(inbound).cast::<()>().addr(),
        );
        let merge = || WithInbound {
            merged: Arc::new(shared.with([Arc::clone(inbound)], [])),
            shared: Arc::clone(shared),
            _inbound: Arc::clone(inbound),
        };
        if self.with_inbound.len() >= NODES_MAX && !self.with_inbound.contains_key(&key) {
            return merge().merged;
        }
        let merged = self.with_inbound.entry(key).or_insert_with(merge);
        Arc::clone(&merged.merged)
    }
}

impl Shared {
    /// Collections that are equal to those before become the very same.
    fn keeping(mut self, before: &Self) -> Self {
        keep(&mut self.clusters, &before.clusters);
        keep(&mut self.endpoints, &before.endpoints);
        keep(&mut self.routes, &before.routes);
        keep(&mut self.filter, &before.filter);
        self
    }
}

fn keep(ours: &mut Arc<Collection>, before: &Arc<Collection>) {
    if !Arc::ptr_eq(ours, before) && ours.has_the_same_as(before) {
        *ours = Arc::clone(before);
    }
}

/// Encodes drafts; one that Envoy's API does not describe is an error of ours, and left out.
fn encoded(encoder: &Encoder, drafts: impl IntoIterator<Item = Draft>) -> Vec<Arc<Resource>> {
    let encode = |draft| match encoder.encode(draft) {
        Ok(resource) => Some(resource),
        Err(problem) => {
            error!(%problem, "resource left out");
            None
        }
    };
    drafts.into_iter().filter_map(encode).collect()
}

#[cfg(test)]
mod tests;
