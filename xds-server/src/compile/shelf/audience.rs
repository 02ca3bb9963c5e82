//! What nodes have in common that may call the same services: clusters, endpoints, routes, the filter.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use policy::{limit::FleetSize, units::ServiceName, wire::FilterConfig};

use super::{
    KEPT_MAX, encoded, keep,
    parts::{Change, Parts},
};
use crate::{
    compile::{Encoder, FilterCode, NodeSpec, Role, extension, node::FilterFile, observe, routes},
    mesh::Mesh,
    resource::{Collection, Resource},
};

/// From what audiences are told.
pub(super) struct Source<'s> {
    /// Counts meshes.
    pub(super) number: u64,
    pub(super) mesh: &'s Mesh,
    /// How it differs from the mesh before.
    pub(super) change: &'s Change,
    pub(super) parts: &'s mut Parts,
    pub(super) encoder: &'s Encoder,
    pub(super) code: &'s FilterCode,
}

/// Those that somebody belongs to.
#[derive(Default)]
pub(super) struct Audiences {
    scopes: HashMap<(AudienceRole, Option<FilterFile>, Option<FleetSize>), Arc<Scope>>,
    known: HashMap<(usize, String), Arc<Audience>>,
}

/// Nodes that are sent the same but for their own listeners.
pub(super) struct Audience {
    scope: Arc<Scope>,
    zone: String,
    told: Mutex<Option<Told<Local>>>,
}

/// Nodes that may call the same services, wherever they stand.
struct Scope {
    role: AudienceRole,
    filter_file: Option<FilterFile>,
    /// Of how many proxies each is one, where they share a limit.
    size: Option<FleetSize>,
    told: Mutex<Option<Told<Common>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum AudienceRole {
    Gateway(ServiceName),
    /// Sidecars that may call these services; all of them when none are named.
    Sidecars(Option<BTreeSet<ServiceName>>),
}

/// What was told last, and in which mesh.
struct Told<T> {
    number: u64,
    what: T,
}

/// What a scope is told.
#[derive(Clone)]
struct Common {
    routes: Arc<Collection>,
    filter: Arc<Collection>,
}

/// What an audience is told.
#[derive(Clone)]
struct Local {
    clusters: Arc<Collection>,
    endpoints: Arc<Collection>,
}

/// All of it.
pub(super) struct Shared {
    pub(super) clusters: Arc<Collection>,
    pub(super) endpoints: Arc<Collection>,
    pub(super) routes: Arc<Collection>,
    pub(super) filter: Arc<Collection>,
}

impl AudienceRole {
    fn of(mesh: &Mesh, role: &Role) -> Option<Self> {
        match role {
            Role::Gateway(name) => {
                mesh.gateways.get(name)?;
                Some(Self::Gateway(name.clone()))
            }
            Role::Service(name) => Some(Self::Sidecars(mesh.services.get(name)?.uses.clone())),
            Role::Unknown => None,
        }
    }

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

    fn calls_all(&self) -> bool {
        !matches!(self, Self::Sidecars(Some(_)))
    }

    fn calls_any(&self, services: &BTreeSet<ServiceName>) -> bool {
        services.iter().any(|name| self.calls(name))
    }
}

impl Audiences {
    /// That of a node; none where the mesh does not know it.
    pub(super) fn of(
        &mut self,
        mesh: &Mesh,
        spec: &NodeSpec,
        size: Option<FleetSize>,
    ) -> Option<Arc<Audience>> {
        let role = AudienceRole::of(mesh, &spec.role)?;
        if self.known.len() >= KEPT_MAX {
            self.forget_unused();
        }
        let is_room = self.known.len() < KEPT_MAX;
        let scope = (role, spec.filter_file.clone(), size);
        let scope = match self.scopes.get(&scope) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(Scope {
                    role: scope.0.clone(),
                    filter_file: scope.1.clone(),
                    size,
                    told: Mutex::default(),
                });
                if is_room {
                    self.scopes.insert(scope, Arc::clone(&new));
                }
                new
            }
        };
        // The scope's address stands for it as long as the audience holds it.
        let key = (Arc::as_ptr(&scope).addr(), spec.zone.clone());
        if let Some(known) = self.known.get(&key) {
            return Some(Arc::clone(known));
        }
        let audience = Arc::new(Audience {
            scope,
            zone: spec.zone.clone(),
            told: Mutex::default(),
        });
        if is_room {
            self.known.insert(key, Arc::clone(&audience));
        }
        Some(audience)
    }

    /// Forgets those to which nobody belongs any more.
    pub(super) fn forget_unused(&mut self) {
        self.known
            .retain(|_, audience| Arc::strong_count(audience) > 1);
        self.scopes.retain(|_, scope| Arc::strong_count(scope) > 1);
    }
}

impl Audience {
    /// What it is told of this mesh.
    pub(super) fn shared(&self, source: &mut Source<'_>) -> Shared {
        let Local {
            clusters,
            endpoints,
        } = current(&self.told, source, |source, before| {
            self.local(source, before)
        });
        let Common { routes, filter } = current(&self.scope.told, source, |source, before| {
            self.scope.common(source, before)
        });
        Shared {
            clusters,
            endpoints,
            routes,
            filter,
        }
    }

    fn local(&self, source: &mut Source<'_>, before: &Before<'_, Local>) -> Local {
        let change = source.change;
        if let (Change::Members { members, gone, .. }, Before::Last(before)) = (change, before) {
            let (clusters, endpoints) = self.services(source, members.iter());
            return Local {
                clusters: replaced(&before.clusters, clusters, gone),
                endpoints: replaced(&before.endpoints, endpoints, gone),
            };
        }
        let mesh = source.mesh;
        // One that may call a few makes only these.
        if self.scope.role.calls_all() {
            source.parts.prepare(mesh, &self.zone, source.encoder);
        }
        let (mut clusters, endpoints) = self.services(source, mesh.services.keys());
        clusters.extend(encoded(source.encoder, observe::collector(mesh)));
        let mut local = Local {
            clusters: Arc::new(Collection::new(clusters)),
            endpoints: Arc::new(Collection::new(endpoints)),
        };
        if let Some(before) = before.any() {
            keep(&mut local.clusters, &before.clusters);
            keep(&mut local.endpoints, &before.endpoints);
        }
        local
    }

    /// Clusters and endpoints of those of these services that it may call.
    fn services<'n>(
        &self,
        source: &mut Source<'_>,
        names: impl Iterator<Item = &'n ServiceName>,
    ) -> (Vec<Arc<Resource>>, Vec<Arc<Resource>>) {
        let (mut clusters, mut endpoints) = (Vec::new(), Vec::new());
        for name in names.filter(|name| self.scope.role.calls(name)) {
            let service = source
                .parts
                .service(source.mesh, name, &self.zone, source.encoder);
            clusters.extend(service.clusters.iter().cloned());
            endpoints.extend(service.endpoints.iter().cloned());
        }
        (clusters, endpoints)
    }
}

impl Scope {
    fn common(&self, source: &Source<'_>, before: &Before<'_, Common>) -> Common {
        let (mut known_routes, mut known_filter) = (None, None);
        if let (
            Change::Members {
                members,
                hosts,
                policies,
                ..
            },
            Before::Last(before),
        ) = (source.change, before)
        {
            let gateway = self.role.gateway();
            let is_itself = gateway.is_some_and(|name| members.contains(name));
            let stays = |services| !is_itself && !self.role.calls_any(services);
            known_routes = stays(hosts).then(|| Arc::clone(&before.routes));
            known_filter = stays(policies).then(|| Arc::clone(&before.filter));
        }
        let mut common = Common {
            routes: known_routes.unwrap_or_else(|| self.routes(source)),
            filter: known_filter.unwrap_or_else(|| self.filter(source)),
        };
        if let Some(before) = before.any() {
            keep(&mut common.routes, &before.routes);
            keep(&mut common.filter, &before.filter);
        }
        common
    }

    fn routes(&self, source: &Source<'_>) -> Arc<Collection> {
        let hosts = source.parts.virtual_hosts(|name| self.role.calls(name));
        let draft = routes(source.mesh, self.role.gateway(), hosts);
        Arc::new(Collection::new(encoded(source.encoder, draft)))
    }

    fn filter(&self, source: &Source<'_>) -> Arc<Collection> {
        let configuration = FilterConfig {
            fleet_size: self.size.unwrap_or_default(),
            ..extension::configuration(source.mesh, self.role.gateway())
        };
        let policies = source.parts.policies(|name| self.role.calls(name));
        let text = configuration.text_with(policies);
        let draft = extension::filter(text, self.filter_file.as_ref(), source.code);
        Arc::new(Collection::new(encoded(source.encoder, [draft])))
    }
}

/// What was told before.
enum Before<'t, T> {
    /// Of the mesh before this one: what did not change since then holds.
    Last(&'t T),
    /// Of an older one.
    Older(&'t T),
    Nothing,
}

impl<'t, T> Before<'t, T> {
    fn any(&self) -> Option<&'t T> {
        match self {
            Self::Last(what) | Self::Older(what) => Some(what),
            Self::Nothing => None,
        }
    }
}

/// What holds in this mesh, made when it is first asked for.
fn current<'s, T: Clone>(
    told: &Mutex<Option<Told<T>>>,
    source: &mut Source<'s>,
    make: impl FnOnce(&mut Source<'s>, &Before<'_, T>) -> T,
) -> T {
    let mut told: MutexGuard<'_, _> = told.lock().unwrap_or_else(PoisonError::into_inner);
    let number = source.number;
    let before = match &*told {
        Some(told) if told.number == number => return told.what.clone(),
        Some(told) if told.number + 1 == number => Before::Last(&told.what),
        Some(told) => Before::Older(&told.what),
        None => Before::Nothing,
    };
    let what = make(source, &before);
    *told = Some(Told {
        number,
        what: what.clone(),
    });
    what
}

/// A collection in which the resources of some services are these now, and those that had these names are
/// gone.
fn replaced(
    before: &Arc<Collection>,
    put: Vec<Arc<Resource>>,
    gone: &BTreeSet<String>,
) -> Arc<Collection> {
    let new: HashSet<&str> = put.iter().map(|resource| &*resource.name).collect();
    let gone: Vec<String> = gone
        .iter()
        .filter(|name| before.get(name).is_some() && !new.contains(name.as_str()))
        .cloned()
        .collect();
    let is_known = |resource: &Arc<Resource>| {
        let known = before.get(&resource.name);
        known.is_some_and(|known| Arc::ptr_eq(known, resource))
    };
    if gone.is_empty() && put.iter().all(is_known) {
        return Arc::clone(before);
    }
    let mut now = Arc::new(before.with(put, gone.iter().map(String::as_str)));
    keep(&mut now, before);
    now
}
