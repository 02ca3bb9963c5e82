//! Views of the mesh in force, put together from parts. A part is made anew only when something that it is
//! made of has changed, so a changed endpoint costs what depends on it, and not the mesh.

mod audience;
mod parts;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use policy::units::ServiceName;
use tracing::error;

use self::{
    audience::{Audience, Audiences, Source},
    parts::{Change, Parts},
};
use super::{
    Divided, Draft, Encoder, FilterCode, FleetSizes, NodeSpec, Role, Unhealthy, node::InboundPorts,
    own,
};
use crate::{
    mesh::Mesh,
    resource::{Collection, Resource, ResourceType, View},
};

/// Parts of each kind that are kept; beyond it views are still right, only not kept. A node chooses parts of
/// its spec, so what it says must not fill our memory.
const KEPT_MAX: usize = 20_000;

/// Views by what makes nodes differ: ten thousand sidecars of one service cost one.
pub struct Shelf {
    mesh: Arc<Mesh>,
    code: Arc<FilterCode>,
    encoder: Arc<Encoder>,
    /// Counts meshes.
    number: u64,
    /// How this mesh differs from the one before.
    change: Change,
    parts: Parts,
    /// Limits of this mesh that proxies share.
    divided: Divided,
    /// Among how many.
    sizes: Arc<FleetSizes>,
    audiences: Audiences,
    /// Those that hold in this mesh.
    owns: HashMap<OwnKey, Arc<Own>>,
    /// Those that held in the one before, and may hold no more.
    owns_before: HashMap<OwnKey, Arc<Own>>,
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
            Self::Members(members) => members.contains(member),
        }
    }
}

/// Where on the shelf a node's view is put together. It holds until the node's own service or gateway is
/// another one ([`Changed::may_be_of`]).
#[derive(Clone)]
pub struct Spot(Option<(Arc<Audience>, Arc<Own>)>);

/// What tells one node's own listeners from another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OwnKey {
    member: ServiceName,
    inbound: Option<InboundPorts>,
    outbound: SocketAddr,
}

/// A node's own listeners, and the cluster of its application.
struct Own {
    listeners: Arc<Collection>,
    inbound: Option<Arc<Resource>>,
    /// Whole views with them: one for each zone in which such nodes stand.
    views: Mutex<Vec<Whole>>,
}

struct Whole {
    /// The mesh for which it was put together.
    number: u64,
    audience: Arc<Audience>,
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
            divided: Divided::of(&mesh),
            sizes: Arc::default(),
            mesh,
            code,
            encoder,
            number: 0,
            change: Change::All,
            parts,
            audiences: Audiences::default(),
            owns: HashMap::new(),
            owns_before: HashMap::new(),
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
        self.number += 1;
        self.change = self.parts.next(&self.mesh, &mesh, unhealthy);
        let divided = match Arc::ptr_eq(&self.mesh, &mesh) {
            true => None,
            false => Some(Divided::of(&mesh)).filter(|divided| *divided != self.divided),
        };
        self.mesh = mesh;
        self.audiences.forget_unused();
        self.owns.retain(|_, own| Arc::strong_count(own) > 1);
        let change = &self.change;
        let others = self.owns.extract_if(|key, _| change.is_of(&key.member));
        self.owns_before = others.collect();
        self.with_inbound
            .retain(|_, merged| Arc::strong_count(&merged.shared) > 1);
        self.encoder.forget_unused();
        match (&self.change, divided) {
            (Change::Members { members, .. }, None) => Changed::Members(members.clone()),
            (Change::All, None) => Changed::All,
            (_, Some(divided)) => {
                // Whoever calls them stands elsewhere on the shelf.
                self.divided = divided;
                Changed::All
            }
        }
    }

    /// Divides limits that proxies share among other numbers of them: those whose views are others then.
    pub fn divide(&mut self, sizes: &Arc<FleetSizes>) -> Changed {
        let mut members = match Arc::ptr_eq(&self.sizes, sizes) {
            true => BTreeSet::new(),
            false => self.sizes.differing(sizes),
        };
        members.retain(|member| self.divided.concerns_member(&self.mesh, member));
        self.sizes = Arc::clone(sizes);
        Changed::Members(members)
    }

    /// Where nodes of a spec have their place.
    pub fn spot(&mut self, spec: &NodeSpec) -> Spot {
        let mut spot = || {
            let member = spec.member()?.clone();
            let size = self.divided.size_for(&self.mesh, &spec.role, &self.sizes);
            let audience = self.audiences.of(&self.mesh, spec, size)?;
            Some((audience, self.own(spec, member)))
        };
        Spot(spot())
    }

    /// What nodes there are sent, with these secrets.
    pub fn view(&mut self, spot: &Spot, secrets: &Arc<Collection>) -> Arc<View> {
        let Spot(Some((audience, own))) = spot else {
            return Arc::clone(&self.nothing);
        };
        let mut views = own.views();
        let number = self.number;
        let known = views
            .iter()
            .position(|whole| Arc::ptr_eq(&whole.audience, audience));
        if let Some(known) = known.and_then(|at| views.get(at))
            && known.number == number
            && Arc::ptr_eq(known.view.collection(ResourceType::Secret), secrets)
        {
            return Arc::clone(&known.view);
        }
        let view = self.whole(audience, own, secrets);
        let known = known.map(|at| views.swap_remove(at).view);
        let view = match known {
            Some(known) if known.is_the_same_as(&view) => known,
            _ => Arc::new(view),
        };
        views.retain(|whole| whole.number + 1 >= number);
        views.push(Whole {
            number,
            audience: Arc::clone(audience),
            view: Arc::clone(&view),
        });
        view
    }

    fn whole(&mut self, audience: &Audience, own: &Own, secrets: &Arc<Collection>) -> View {
        let shared = audience.shared(&mut Source {
            number: self.number,
            mesh: &self.mesh,
            change: &self.change,
            parts: &mut self.parts,
            encoder: &self.encoder,
            code: &self.code,
        });
        let clusters = self.clusters(&shared.clusters, own.inbound.as_ref());
        View::of([
            (ResourceType::Cluster, clusters),
            (ResourceType::ClusterLoadAssignment, shared.endpoints),
            (ResourceType::Listener, Arc::clone(&own.listeners)),
            (ResourceType::RouteConfiguration, shared.routes),
            (ResourceType::ExtensionConfig, shared.filter),
            (ResourceType::Secret, Arc::clone(secrets)),
        ])
    }

    fn own(&mut self, spec: &NodeSpec, member: ServiceName) -> Arc<Own> {
        let service = match &spec.role {
            Role::Service(name) => self.mesh.services.get(name),
            Role::Gateway(_) | Role::Unknown => None,
        };
        let key = OwnKey {
            inbound: service.and_then(|service| spec.inbound(service)),
            outbound: spec.outbound,
            member,
        };
        if let Some(own) = self.owns.get(&key) {
            return Arc::clone(own);
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
        let mut listeners = Arc::new(Collection::new(listeners));
        let before = self.owns_before.get(&key);
        if let Some(before) = before {
            keep(&mut listeners, &before.listeners);
        }
        let own = Arc::new(Own {
            listeners,
            inbound,
            // What did not change in them is then the very same.
            views: Mutex::new(before.map_or_else(Vec::new, |before| before.views().split_off(0))),
        });
        if self.owns.len() >= KEPT_MAX {
            self.owns.retain(|_, own| Arc::strong_count(own) > 1);
        }
        if self.owns.len() < KEPT_MAX {
            self.owns.insert(key, Arc::clone(&own));
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
        if self.with_inbound.len() >= KEPT_MAX && !self.with_inbound.contains_key(&key) {
            return merge().merged;
        }
        let merged = self.with_inbound.entry(key).or_insert_with(merge);
        Arc::clone(&merged.merged)
    }
}

impl Own {
    fn views(&self) -> MutexGuard<'_, Vec<Whole>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
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
