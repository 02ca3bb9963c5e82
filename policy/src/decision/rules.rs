//! A configuration made ready for requests: services found by what a request shows, breaker cells
//! numbered.

use std::collections::BTreeMap;

use xxhash_rust::xxh64::Xxh64;

use crate::{
    breaker::BreakerRules,
    canary::CanarySplit,
    names,
    time::WallTime,
    timetable::{Timetable, Traffic},
    units::{ClassName, ServiceName, VersionLabel, ZoneName},
    wire::{FilterConfig, ServiceConfig},
};

/// The number of a breaker's cell, an index into [`Rules::cells`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(pub u16);

/// The service a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceId {
    /// An index into [`Rules::services`].
    Known(u16),
    /// None that the configuration names: no rule holds.
    Other,
}

/// Above this share a canary's own breaker no longer moves its users to stable: stable could not
/// carry them.
const FALLBACK_WEIGHT_MAX: u16 = 5_000;

/// One service, ready for requests.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRules {
    /// Its name.
    pub name: ServiceName,
    /// The class of its requests.
    pub class: ClassName,
    /// The breaker of its stable version; none beyond 65,536 cells.
    pub stable_cell: Option<CellId>,
    /// Its canary, if one runs.
    pub canary: Option<CanaryRules>,
}

/// A service's canary, ready for requests.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryRules {
    /// Version, weight and stickiness.
    pub split: CanarySplit,
    /// The canary's own breaker; none beyond 65,536 cells.
    pub cell: Option<CellId>,
}

impl CanaryRules {
    /// Whether its users go to stable while its breaker refuses.
    pub fn falls_back(&self) -> bool {
        self.split.weight.get() <= FALLBACK_WEIGHT_MAX
    }
}

/// One breaker: of a service, a version and a class. What one class does never refuses another.
#[derive(Debug, Clone, PartialEq)]
pub struct CellRules {
    /// The service.
    pub service: ServiceName,
    /// The canary's label; none is stable.
    pub version: Option<VersionLabel>,
    /// The class.
    pub class: ClassName,
    /// When it opens and closes.
    pub rules: BreakerRules,
    /// Where all workers of one Envoy keep it: `mumbai_mesh/breaker/v1/SERVICE/VERSION/CLASS`.
    pub shared_key: String,
}

/// Everything that decisions need, from one configuration.
#[derive(Debug, Clone)]
pub struct Rules {
    zone: Option<ZoneName>,
    region: Option<String>,
    timetable: Timetable,
    services: Vec<ServiceRules>,
    cells: Vec<CellRules>,
    by_name: BTreeMap<Box<[u8]>, u16>,
    by_cluster: BTreeMap<Box<[u8]>, u16>,
    by_authority: BTreeMap<Box<[u8]>, u16>,
    default_class: ClassName,
    trust_canary_header: bool,
}

impl Rules {
    /// Makes a configuration ready. Services beyond 65,536 are left out; what was read has far fewer.
    pub fn new(config: FilterConfig) -> Self {
        let mut rules = Self {
            zone: config.zone,
            region: config.region,
            timetable: config.timetable,
            services: Vec::with_capacity(config.services.len()),
            cells: Vec::with_capacity(config.services.len()),
            by_name: BTreeMap::new(),
            by_cluster: BTreeMap::new(),
            by_authority: BTreeMap::new(),
            default_class: ClassName::default(),
            trust_canary_header: config.trust_canary_header,
        };
        // Clusters and authorities that are named outrank those that follow from other names.
        for (index, service) in (0..=u16::MAX).zip(&config.services) {
            for cluster in &service.clusters {
                insert(&mut rules.by_cluster, cluster, index);
            }
            for authority in &service.authorities {
                insert(
                    &mut rules.by_authority,
                    &authority.to_ascii_lowercase(),
                    index,
                );
            }
        }
        for (index, service) in (0..=u16::MAX).zip(config.services) {
            rules.add(index, service);
        }
        rules
    }

    fn add(&mut self, index: u16, service: ServiceConfig) {
        let name = service.name.as_str();
        insert(&mut self.by_name, name, index);
        insert(&mut self.by_cluster, name, index);
        insert(&mut self.by_authority, &name.to_ascii_lowercase(), index);
        if let Some(canary) = &service.canary {
            insert(
                &mut self.by_cluster,
                &format!("{name}|{}", canary.version),
                index,
            );
        }
        let stable_cell = self.add_cell(&service, None, service.breaker.clone());
        let canary = service.canary.clone().map(|split| {
            let mut canary = CanaryRules { split, cell: None };
            let mut breaker = service.breaker.clone();
            // A latched canary waits for a person; one that carries most users must come back itself.
            breaker.latch = canary.falls_back().then(|| fingerprint(&canary.split));
            canary.cell = self.add_cell(&service, Some(&canary.split.version), breaker);
            canary
        });
        self.services.push(ServiceRules {
            name: service.name,
            class: service.class,
            stable_cell,
            canary,
        });
    }

    fn add_cell(
        &mut self,
        service: &ServiceConfig,
        version: Option<&VersionLabel>,
        rules: BreakerRules,
    ) -> Option<CellId> {
        let id = CellId(u16::try_from(self.cells.len()).ok()?);
        let (name, class) = (&service.name, &service.class);
        let label = version.map_or(names::STABLE, VersionLabel::as_str);
        self.cells.push(CellRules {
            service: name.clone(),
            version: version.cloned(),
            class: class.clone(),
            rules,
            shared_key: format!("mumbai_mesh/breaker/v1/{name}/{label}/{class}"),
        });
        Some(id)
    }

    /// Peak hours and festivals.
    pub fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// The node's own zone.
    pub fn zone(&self) -> Option<&ZoneName> {
        self.zone.as_ref()
    }

    /// Prefix that zone labels of metrics drop.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Whether a client's `x-mumbai-canary` chooses its version.
    pub fn trust_canary_header(&self) -> bool {
        self.trust_canary_header
    }

    /// Every service, by [`ServiceId`].
    pub fn services(&self) -> &[ServiceRules] {
        &self.services
    }

    /// Every breaker, by [`CellId`].
    pub fn cells(&self) -> &[CellRules] {
        &self.cells
    }

    /// One service; none for [`ServiceId::Other`].
    pub fn service(&self, id: ServiceId) -> Option<&ServiceRules> {
        match id {
            ServiceId::Known(index) => self.services.get(usize::from(index)),
            ServiceId::Other => None,
        }
    }

    /// One breaker.
    pub fn cell(&self, id: CellId) -> Option<&CellRules> {
        self.cells.get(usize::from(id.0))
    }

    /// The state at an instant, for this node's zone.
    pub fn traffic_at(&self, wall: WallTime) -> Traffic {
        self.timetable.at(wall, self.zone.as_ref())
    }

    /// The class of requests for no known service.
    pub(super) fn default_class(&self) -> &ClassName {
        &self.default_class
    }

    /// The service that a request is for: what its route's metadata says, else its cluster, else the
    /// host it asks for, whatever port that has.
    pub fn resolve_service(
        &self,
        metadata: Option<&[u8]>,
        cluster: Option<&[u8]>,
        authority: Option<&[u8]>,
    ) -> ServiceId {
        let known = |map: &BTreeMap<Box<[u8]>, u16>, key: Option<&[u8]>| map.get(key?).copied();
        known(&self.by_name, metadata)
            .or_else(|| known(&self.by_cluster, cluster))
            .or_else(|| self.by_host(without_port(authority?)))
            .map_or(ServiceId::Other, ServiceId::Known)
    }

    fn by_host(&self, host: &[u8]) -> Option<u16> {
        // No host name is longer; so nothing long is copied.
        const HOST_MAX: usize = 255;
        if host.len() > HOST_MAX {
            return None;
        }
        if host.iter().any(u8::is_ascii_uppercase) {
            return self
                .by_authority
                .get(host.to_ascii_lowercase().as_slice())
                .copied();
        }
        self.by_authority.get(host).copied()
    }
}

/// The first to name something keeps it.
fn insert(map: &mut BTreeMap<Box<[u8]>, u16>, key: &str, index: u16) {
    map.entry(key.as_bytes().into()).or_insert(index);
}

/// `host:8080` -> `host`, `[::1]:8080` -> `[::1]`.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) => match authority.split_at_checked(colon) {
            Some((host, port)) if port.iter().skip(1).all(u8::is_ascii_digit) => host,
            _ => authority,
        },
        None => authority,
    }
}

/// A canary whose fields a person changed is another canary.
fn fingerprint(split: &CanarySplit) -> u64 {
    let mut hash = Xxh64::new(0);
    hash.update(split.version.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(&split.weight.get().to_le_bytes());
    if let Some(header) = &split.sticky_by {
        hash.update(header.as_str().as_bytes());
    }
    hash.digest()
}
