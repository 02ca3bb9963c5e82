//! What of a mesh depends on one service alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use policy::units::ServiceName;
use rayon::prelude::*;
use serde_json::Value;

use super::encoded;
use crate::{
    compile::{Encoder, Unhealthy, cluster, cluster_names, endpoint, route},
    mesh::{Mesh, Service},
    resource::Resource,
};

/// How a mesh differs from the one before.
pub(super) enum Change {
    /// In something on which everything may depend.
    All,
    /// In services and gateways only, or in what is known of their endpoints' health.
    Members {
        /// Those that are others, new or gone.
        members: BTreeSet<ServiceName>,
        /// Names of clusters that the old ones had.
        gone: BTreeSet<String>,
        /// Services that callers find by other routes.
        hosts: BTreeSet<ServiceName>,
        /// Services that callers' filters judge by other rules.
        policies: BTreeSet<ServiceName>,
    },
}

impl Change {
    /// Whether a service or gateway may be another one than before.
    pub(super) fn is_of(&self, member: &ServiceName) -> bool {
        match self {
            Self::All => true,
            Self::Members { members, .. } => members.contains(member),
        }
    }
}

/// Parts of all services.
pub(super) struct Parts {
    services: BTreeMap<ServiceName, Part>,
    unhealthy: Arc<Unhealthy>,
}

struct Part {
    virtual_host: Value,
    /// The service in a filter's configuration, as JSON.
    policy: String,
    /// By the caller's zone.
    resources: HashMap<String, Resources>,
}

/// What callers of one zone are sent of a service.
pub(super) struct Resources {
    pub(super) clusters: Vec<Arc<Resource>>,
    pub(super) endpoints: Vec<Arc<Resource>>,
}

impl Part {
    fn new(mesh: &Mesh, name: &ServiceName, service: &Service) -> Self {
        Self {
            virtual_host: route::virtual_host(mesh, name, service),
            policy: service.policy(name).to_json().to_string(),
            resources: HashMap::new(),
        }
    }

    /// What callers in `zone` are sent of this part's service.
    fn resources(
        &mut self,
        mesh: &Mesh,
        (name, service): (&ServiceName, &Service),
        zone: &str,
        unhealthy: &Unhealthy,
        encoder: &Encoder,
    ) -> &Resources {
        // Only a cluster that holds its endpoints itself depends on the zone.
        let clusters = match self.resources.values().next() {
            Some(elsewhere) if !service.found_by_name() => Some(elsewhere.clusters.clone()),
            _ => None,
        };
        let clusters = || {
            clusters
                .unwrap_or_else(|| encoded(encoder, cluster::clusters(mesh, name, service, zone)))
        };
        let endpoints = || {
            encoded(
                encoder,
                endpoint::assignments(name, service, zone, unhealthy.of(name)),
            )
        };
        self.resources
            .entry(zone.into())
            .or_insert_with(|| Resources {
                clusters: clusters(),
                endpoints: endpoints(),
            })
    }
}

impl Parts {
    pub(super) fn new(mesh: &Mesh, unhealthy: Arc<Unhealthy>) -> Self {
        let part = |(name, service): (&ServiceName, &Service)| {
            (name.clone(), Part::new(mesh, name, service))
        };
        let services: Vec<(&ServiceName, &Service)> = mesh.services.iter().collect();
        Self {
            services: services.into_par_iter().map(part).collect(),
            unhealthy,
        }
    }

    /// Goes from one mesh to the next, and from what was known of its endpoints' health to what is.
    pub(super) fn next(&mut self, before: &Mesh, mesh: &Mesh, unhealthy: Arc<Unhealthy>) -> Change {
        if !is_the_same_but_for_members(before, mesh) {
            *self = Self::new(mesh, unhealthy);
            return Change::All;
        }
        let services = before.services.differing(&mesh.services);
        let (mut gone, mut hosts, mut policies) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for name in &services {
            if let Some(old) = before.services.get(name) {
                gone.extend(cluster_names(name, old).into_iter().map(|(name, _)| name));
            }
            let part = mesh
                .services
                .get(name)
                .map(|service| Part::new(mesh, name, service));
            let old = self.services.remove(name);
            let (new_part, old_part) = (part.as_ref(), old.as_ref());
            if new_part.map(|part| &part.virtual_host) != old_part.map(|part| &part.virtual_host) {
                hosts.insert(name.clone());
            }
            if new_part.map(|part| &part.policy) != old_part.map(|part| &part.policy) {
                policies.insert(name.clone());
            }
            if let Some(part) = part {
                self.services.insert(name.clone(), part);
            }
        }
        let mut members = services;
        members.extend(differing(&before.gateways, &mesh.gateways));
        for name in differing(&self.unhealthy.0, &unhealthy.0) {
            if let Some(part) = self.services.get_mut(&name) {
                part.resources.clear();
                members.insert(name);
            }
        }
        self.unhealthy = unhealthy;
        Change::Members {
            members,
            gone,
            hosts,
            policies,
        }
    }

    /// Makes all that callers in `zone` may be sent, on all processors.
    pub(super) fn prepare(&mut self, mesh: &Mesh, zone: &str, encoder: &Encoder) {
        let unhealthy = &self.unhealthy;
        self.services.par_iter_mut().for_each(|(name, part)| {
            if let Some(service) = mesh.services.get(name) {
                part.resources(mesh, (name, service), zone, unhealthy, encoder);
            }
        });
    }

    /// What callers in `zone` are sent of a service; nothing where there is none of that name.
    pub(super) fn service(
        &mut self,
        mesh: &Mesh,
        name: &ServiceName,
        zone: &str,
        encoder: &Encoder,
    ) -> &Resources {
        static NOTHING: Resources = Resources {
            clusters: Vec::new(),
            endpoints: Vec::new(),
        };
        match (mesh.services.get(name), self.services.get_mut(name)) {
            (Some(service), Some(part)) => {
                part.resources(mesh, (name, service), zone, &self.unhealthy, encoder)
            }
            _ => &NOTHING,
        }
    }

    pub(super) fn virtual_hosts<'p>(
        &'p self,
        of: impl Fn(&ServiceName) -> bool + 'p,
    ) -> impl Iterator<Item = &'p Value> {
        let services = self.services.iter().filter(move |(name, _)| of(name));
        services.map(|(_, part)| &part.virtual_host)
    }

    pub(super) fn policies<'p>(
        &'p self,
        of: impl Fn(&ServiceName) -> bool + 'p,
    ) -> impl Iterator<Item = &'p str> {
        let services = self.services.iter().filter(move |(name, _)| of(name));
        services.map(|(_, part)| part.policy.as_str())
    }
}

/// Names under which two maps hold different things. All of both are compared, on all processors.
fn differing<T: PartialEq + Sync>(
    before: &BTreeMap<ServiceName, T>,
    now: &BTreeMap<ServiceName, T>,
) -> BTreeSet<ServiceName> {
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let others = now
        .par_iter()
        .filter(|(name, one)| before.get(*name) != Some(one))
        .map(|(name, _)| name.clone());
    let mut differing: BTreeSet<ServiceName> = others.collect();
    differing.extend(gone.cloned());
    differing
}

/// Whoever adds a field to [`Mesh`] is asked here what depends on it.
fn is_the_same_but_for_members(before: &Mesh, now: &Mesh) -> bool {
    let Mesh {
        name,
        region,
        trust_domain,
        certificates,
        timetable,
        // Of changes, and of no Envoy.
        freeze: _,
        traffic_classes,
        proxies,
        services: _,
        gateways: _,
    } = before;
    (name, region, trust_domain) == (&now.name, &now.region, &now.trust_domain)
        && (certificates, proxies) == (&now.certificates, &now.proxies)
        && (timetable, traffic_classes) == (&now.timetable, &now.traffic_classes)
}
