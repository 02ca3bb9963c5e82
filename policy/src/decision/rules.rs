//! A configuration made ready for requests: classes in their order, breaker cells and limits
//! numbered.

use std::sync::Arc;

use xxhash_rust::xxh64::Xxh64;

use super::services::ServiceIndex;
use crate::{
    breaker::{BreakerRules, Latch, TimedRules},
    canary::{CanarySplit, Fallback, Schedule, Weight},
    limit::{FleetSize, Limit, Rate},
    names,
    overrides::Override,
    time::WallTime,
    timetable::{RampId, Timetable, Traffic},
    traffic_class::{Headers, RefusalBody, RequestMatch, Shed, TrafficClass},
    units::{BasisPoints, ClassName, ServiceName, VersionLabel, ZoneName},
    wire::{FilterConfig, ServiceConfig, ServiceSource},
};

/// Number of a breaker's cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(pub u32);

/// Number of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u32);

/// Number of a traffic class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u16);

/// The service that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceId {
    /// A configured one, by its place in the configuration.
    Known(u16),
    /// None of them: counted, not judged.
    Other,
}

/// At most this share may fall back from an open canary to stable: more would overload it.
const FALLBACK_WEIGHT_MAX: u32 = 5_000;

/// A service, ready for requests.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRules {
    /// Its name.
    pub name: ServiceName,
    /// The class of its requests that match no class of the list.
    pub class: ClassId,
    /// Its own limit, for all classes together.
    pub limit: Option<LimitId>,
    /// Breakers of its stable version, one to a class.
    stable: ClassCells,
    /// Its canary, if one runs.
    pub canary: Option<CanaryRules>,
    /// What somebody says of it until a time.
    pub overridden: Option<Override>,
}

impl ServiceRules {
    /// Cells of its stable version.
    pub fn stable_cells(&self) -> impl Iterator<Item = CellId> {
        self.stable.ids()
    }
}

/// A service's canary, ready for requests.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryRules {
    /// The split of users.
    pub split: CanarySplit,
    /// Of a weight that is a ramp.
    ramp: Option<RampId>,
    cells: ClassCells,
}

impl CanaryRules {
    /// Its share now.
    pub fn weight(&self, traffic: &Traffic) -> BasisPoints {
        match (&self.split.weight, self.ramp) {
            (_, Some(ramp)) => traffic.ramp(ramp),
            (weight, None) => weight.highest(),
        }
    }

    /// The number of its ramp.
    pub fn ramp(&self) -> Option<RampId> {
        self.ramp
    }

    /// Whether its users are served by stable while its breaker is open at this weight.
    pub fn falls_back(&self, weight: BasisPoints) -> bool {
        self.split.fallback != Fallback::Off && weight <= fallback_weight_max()
    }

    /// Its cells.
    pub fn cells(&self) -> impl Iterator<Item = CellId> {
        self.cells.ids()
    }
}

/// Consecutive cells: one for each class of the list, then one for the service's own class where the
/// list does not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClassCells {
    first: u32,
    listed: u16,
    own: Option<ClassId>,
}

impl ClassCells {
    fn of(self, class: ClassId) -> Option<CellId> {
        if class.0 < self.listed {
            return Some(CellId(self.first + u32::from(class.0)));
        }
        (self.own == Some(class)).then(|| CellId(self.first + u32::from(self.listed)))
    }

    fn ids(self) -> impl Iterator<Item = CellId> {
        let count = u32::from(self.listed) + u32::from(self.own.is_some());
        (self.first..self.first + count).map(CellId)
    }
}

/// One breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct CellRules {
    /// The service called.
    pub service: ServiceName,
    /// The canary's label; none is stable.
    pub version: Option<VersionLabel>,
    /// The class of the requests it sees.
    pub class: ClassName,
    /// When it opens, at every time of the timetable.
    pub rules: Arc<TimedRules>,
    /// It decides and counts, and refuses nothing.
    pub observe: bool,
    /// Whether what Envoy itself refused counts as a failure.
    pub count_envoy_refusals: bool,
    /// Its key in memory that all workers of an Envoy share.
    pub shared_key: String,
    /// The service's place among those of the rules.
    number: u16,
}

impl CellRules {
    /// What holds now, for its service.
    pub fn at(&self, traffic: &Traffic) -> &BreakerRules {
        self.rules.at(traffic.of_service(self.number))
    }
}

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitRules {
    /// Requests per second.
    pub limit: Limit,
    /// Its key in memory that all workers of an Envoy share.
    pub shared_key: String,
    fleet_size: FleetSize,
}

impl LimitRules {
    /// What holds now for this proxy.
    pub fn rate(&self, traffic: &Traffic) -> Rate {
        self.limit.share(traffic, self.fleet_size)
    }
}

/// One class, ready for requests.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRules {
    /// Its name.
    pub name: ClassName,
    matches: Vec<RequestMatch>,
    /// Its limit, for all services together.
    pub limit: Option<LimitId>,
    /// What is shed when.
    pub shed: Option<Shed>,
    /// What its refusals say.
    pub refusal: Option<RefusalBody>,
}

/// All that decisions are made by.
#[derive(Debug, Clone)]
pub struct Rules {
    zone: Option<ZoneName>,
    region: Option<String>,
    timetable: Timetable,
    services: Vec<ServiceRules>,
    index: ServiceIndex,
    /// Those of the list in its order, then those that only services name.
    classes: Vec<ClassRules>,
    listed: u16,
    cells: Vec<CellRules>,
    limits: Vec<LimitRules>,
    ramps: Vec<Schedule>,
    default_class: ClassName,
    trust_canary_header: bool,
    debug_headers: bool,
    service_from: ServiceSource,
    fleet_size: FleetSize,
}

impl Rules {
    /// Makes a configuration ready.
    pub fn new(config: FilterConfig) -> Self {
        let mut rules = Self {
            zone: config.zone,
            region: config.region,
            timetable: config.timetable,
            services: Vec::with_capacity(config.services.len()),
            index: ServiceIndex::new(&config.services),
            classes: Vec::new(),
            listed: 0,
            cells: Vec::with_capacity(config.services.len()),
            limits: Vec::new(),
            ramps: Vec::new(),
            default_class: ClassName::default(),
            trust_canary_header: config.trust_canary_header,
            debug_headers: config.debug_headers,
            service_from: config.service_from,
            fleet_size: config.fleet_size,
        };
        for class in config.traffic_classes {
            rules.add_class(class);
        }
        rules.listed = u16::try_from(rules.classes.len()).unwrap_or(u16::MAX);
        for service in config.services {
            rules.add_service(service);
        }
        rules
    }

    fn add_class(&mut self, class: TrafficClass) {
        let limit = class
            .limit
            .map(|limit| self.add_limit(limit, "class", class.name.as_str()));
        self.classes.push(ClassRules {
            name: class.name,
            matches: class.matches,
            limit,
            shed: class.shed,
            refusal: class.refusal,
        });
    }

    fn add_limit(&mut self, limit: Limit, of: &str, name: &str) -> LimitId {
        let id = u32::try_from(self.limits.len()).unwrap_or(u32::MAX);
        self.limits.push(LimitRules {
            limit,
            shared_key: format!("mumbai_mesh/limit/v3/{of}/{name}"),
            fleet_size: self.fleet_size,
        });
        LimitId(id)
    }

    /// The number of a class that a service names.
    fn class_named(&mut self, name: &ClassName) -> ClassId {
        let known = self.classes.iter().position(|class| class.name == *name);
        let index = known.unwrap_or_else(|| {
            self.classes.push(ClassRules {
                name: name.clone(),
                matches: Vec::new(),
                limit: None,
                shed: None,
                refusal: None,
            });
            self.classes.len() - 1
        });
        ClassId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    fn add_service(&mut self, service: ServiceConfig) {
        let class = self.class_named(&service.class);
        let stable = Arc::new(service.breaker.timed(service.timeout));
        let stable = self.add_cells(&service, class, None, &stable);
        let canary = service.canary.clone();
        let canary = canary.map(|split| self.add_canary(&service, class, split));
        let limit = service
            .limit
            .map(|limit| self.add_limit(limit, "service", service.name.as_str()));
        self.services.push(ServiceRules {
            name: service.name,
            class,
            limit,
            stable,
            canary,
            overridden: service.overridden,
        });
    }

    fn add_canary(
        &mut self,
        service: &ServiceConfig,
        class: ClassId,
        split: CanarySplit,
    ) -> CanaryRules {
        let ramp = split.weight.ramp().map(|ramp| {
            let schedule = ramp.schedule(&split.freeze_during, &self.timetable);
            self.ramps.push(schedule);
            RampId(u16::try_from(self.ramps.len() - 1).unwrap_or(u16::MAX))
        });
        // A latched canary waits for a person; one that carries most users must come back itself.
        let most = fallback_weight_max();
        let may_latch = ramp.is_some() || split.weight.highest() <= most;
        let latches = may_latch && split.fallback == Fallback::Latch;
        let latch = latches.then(|| Latch {
            canary: fingerprint(&split),
            engages: true,
        });
        let rules = service.breaker.latched(latch).timed(service.timeout);
        let rules = match ramp {
            Some(ramp) => rules.not_latching_above(ramp, most),
            None => rules,
        };
        let cells = self.add_cells(service, class, Some(&split.version), &Arc::new(rules));
        CanaryRules { split, ramp, cells }
    }

    fn add_cells(
        &mut self,
        service: &ServiceConfig,
        own: ClassId,
        version: Option<&VersionLabel>,
        rules: &Arc<TimedRules>,
    ) -> ClassCells {
        let plan = &service.breaker;
        let cells = ClassCells {
            first: u32::try_from(self.cells.len()).unwrap_or(u32::MAX),
            listed: self.listed,
            own: (own.0 >= self.listed).then_some(own),
        };
        let name = &service.name;
        let label = version.map_or(names::STABLE, VersionLabel::as_str);
        let listed = self.classes.iter().take(usize::from(self.listed));
        let own = cells
            .own
            .and_then(|own| self.classes.get(usize::from(own.0)));
        for class in listed.chain(own) {
            let class = &class.name;
            self.cells.push(CellRules {
                service: name.clone(),
                version: version.cloned(),
                class: class.clone(),
                rules: Arc::clone(rules),
                observe: plan.observe,
                count_envoy_refusals: plan.count_envoy_refusals,
                shared_key: format!("mumbai_mesh/breaker/v1/{name}/{label}/{class}"),
                number: u16::try_from(self.services.len()).unwrap_or(u16::MAX),
            });
        }
        cells
    }

    /// Peak hours and festivals.
    pub fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// The node's zone.
    pub fn zone(&self) -> Option<&ZoneName> {
        self.zone.as_ref()
    }

    /// The mesh's region.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Whether a client's `x-mumbai-canary` chooses its version.
    pub fn trust_canary_header(&self) -> bool {
        self.trust_canary_header
    }

    /// Whether responses tell what was decided.
    pub fn debug_headers(&self) -> bool {
        self.debug_headers
    }

    /// By what the service of a request is known.
    pub fn service_from(&self) -> ServiceSource {
        self.service_from
    }

    /// Among how many proxies limits with `scope: fleet` are shared.
    pub fn fleet_size(&self) -> FleetSize {
        self.fleet_size
    }

    /// Every configured service, in the configuration's order.
    pub fn services(&self) -> &[ServiceRules] {
        &self.services
    }

    /// Every breaker; its place is its [`CellId`].
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
        self.cells.get(usize::try_from(id.0).ok()?)
    }

    /// One limit.
    pub fn limit(&self, id: LimitId) -> Option<&LimitRules> {
        self.limits.get(usize::try_from(id.0).ok()?)
    }

    /// Every class: those of the list in its order, then those that only services name.
    pub fn classes(&self) -> &[ClassRules] {
        &self.classes
    }

    /// One class.
    pub fn class(&self, id: ClassId) -> Option<&ClassRules> {
        self.classes.get(usize::from(id.0))
    }

    /// The class of a request: the first of the list that matches, else its service's own.
    pub(super) fn class_of(&self, service: &ServiceRules, headers: &dyn Headers) -> ClassId {
        let listed = (0..self.listed).zip(&self.classes);
        let matching = |class: &ClassRules| class.matches.iter().any(|one| one.matches(headers));
        let mut matching = listed.filter(|(_, class)| matching(class));
        matching.next().map_or(service.class, |(id, _)| ClassId(id))
    }

    /// The breaker of a service's stable version for a class.
    pub(super) fn stable_cell(&self, service: &ServiceRules, class: ClassId) -> Option<CellId> {
        service.stable.of(class)
    }

    /// The breaker of a canary for a class.
    pub(super) fn canary_cell(&self, canary: &CanaryRules, class: ClassId) -> Option<CellId> {
        canary.cells.of(class)
    }

    /// The state at an instant, for this node's zone, with the weight of every ramp. It holds until
    /// the calendar changes or a ramp steps.
    pub fn traffic_at(&self, wall: WallTime) -> Traffic {
        self.traffic_in(wall, self.zone.as_ref())
    }

    /// The same for a node of another zone.
    pub fn traffic_in(&self, wall: WallTime, zone: Option<&ZoneName>) -> Traffic {
        let mut traffic = self.timetable.at(wall, zone);
        traffic.ramps = self.ramps.iter().map(|ramp| ramp.at(wall)).collect();
        let steps = self.ramps.iter().filter_map(|ramp| ramp.next_after(wall));
        let steps = steps.map(|step| step.from);
        traffic.holds_until = steps.fold(traffic.holds_until, WallTime::min);
        for (number, service) in (0_u16..).zip(&self.services) {
            if let Some(said) = service.overridden.filter(|said| said.acts(wall)) {
                traffic.override_service(number, said);
            }
        }
        traffic
    }

    /// When a ramp steps.
    pub fn schedule(&self, id: RampId) -> Option<&Schedule> {
        self.ramps.get(usize::from(id.0))
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
        self.index.resolve(metadata, cluster, authority)
    }
}

fn fallback_weight_max() -> BasisPoints {
    BasisPoints::new(FALLBACK_WEIGHT_MAX).unwrap_or_default()
}

/// A canary whose fields a person changed is another canary; one whose ramp steps is not.
fn fingerprint(split: &CanarySplit) -> u64 {
    let mut hash = Xxh64::new(0);
    hash.update(split.version.as_str().as_bytes());
    hash.update(&[0]);
    match &split.weight {
        Weight::Fixed(weight) => hash.update(&weight.get().to_le_bytes()),
        Weight::Ramp(ramp) => {
            hash.update(&ramp.start().unix_millis().to_le_bytes());
            for step in ramp.steps() {
                hash.update(&step.get().to_le_bytes());
            }
            hash.update(&ramp.every().as_nanos().to_le_bytes());
        }
    }
    if let Some(header) = &split.sticky_by {
        hash.update(header.as_str().as_bytes());
    }
    if split.resumed > 0 {
        hash.update(&[0]);
        hash.update(&split.resumed.to_le_bytes());
    }
    hash.digest()
}
