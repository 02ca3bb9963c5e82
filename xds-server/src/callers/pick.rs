//! Which of a service's instances a caller is to use, as an Envoy in the same zone would choose: by priority, zone and
//! weight, among those that take requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy::units::{VersionLabel, ZoneName};

use crate::{
    compile::{carries, is_in_panic, left_out, priorities, shares},
    mesh::{Endpoint, Placement, Service, Standing},
};

/// Instances that are named where they are left out.
const NAMED_MAX: usize = 5;

/// Instances of one service, ready to be drawn from, until it or what is known of its health is another.
#[derive(Debug)]
pub(super) struct Tables {
    service: Arc<Service>,
    unhealthy: Option<Arc<BTreeSet<String>>>,
    /// In which some instance stands: all other callers are alike.
    zones: BTreeSet<ZoneName>,
    by: BTreeMap<(Option<VersionLabel>, Option<ZoneName>), Arc<Table>>,
}

impl Tables {
    pub(super) fn of(service: &Arc<Service>, unhealthy: Option<&Arc<BTreeSet<String>>>) -> Self {
        let zones = service.endpoints.iter().filter_map(|one| one.zone.clone());
        Self {
            service: Arc::clone(service),
            unhealthy: unhealthy.cloned(),
            zones: zones.collect(),
            by: BTreeMap::new(),
        }
    }

    /// Whether they are of this service, of whose health this is known.
    pub(super) fn are_of(
        &self,
        service: &Arc<Service>,
        unhealthy: Option<&Arc<BTreeSet<String>>>,
    ) -> bool {
        let is_same = match (&self.unhealthy, unhealthy) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        is_same && Arc::ptr_eq(&self.service, service)
    }

    /// Those of a version, for a caller in this zone.
    pub(super) fn table(
        &mut self,
        version: Option<&VersionLabel>,
        zone: Option<&ZoneName>,
    ) -> Arc<Table> {
        let zone = zone.filter(|zone| self.zones.contains(*zone));
        let (service, unhealthy) = (&self.service, self.unhealthy.as_deref());
        let make = || Arc::new(Table::of(service, version, zone, unhealthy));
        let key = (version.cloned(), zone.cloned());
        Arc::clone(self.by.entry(key).or_insert_with(make))
    }
}

/// Instances of one version, as callers of one zone use them.
#[derive(Debug)]
pub(super) struct Table {
    /// Priorities of zones of instances.
    priorities: Drawn<Drawn<Drawn<Endpoint>>>,
    /// How many there are, those that are left out included.
    pub(super) all: usize,
    /// How many of them take no requests, and why some of them do not.
    pub(super) left_out: (usize, Vec<String>),
    /// Too few are healthy: health is not looked at.
    pub(super) panics: bool,
}

/// A drawn instance.
pub(super) struct Picked<'t> {
    pub(super) endpoint: &'t Endpoint,
    /// 0 is used first.
    pub(super) priority: usize,
}

impl Table {
    fn of(
        service: &Service,
        version: Option<&VersionLabel>,
        zone: Option<&ZoneName>,
        unhealthy: Option<&BTreeSet<String>>,
    ) -> Self {
        let none = BTreeSet::new();
        let unhealthy = unhealthy.unwrap_or(&none);
        let steps = priorities(service, version, zone.map_or("", ZoneName::as_str));
        let is_healthy = |endpoint: &Endpoint| left_out(endpoint, unhealthy).is_none();
        let counts: Vec<(u64, u64)> = steps
            .iter()
            .map(|step| {
                let endpoints = || step.iter().flat_map(|(.., endpoints)| endpoints.iter());
                let healthy = endpoints().filter(|one| is_healthy(one)).count();
                (healthy as u64, endpoints().count() as u64)
            })
            .collect();
        let threshold = service.placement.panic_threshold;
        let threshold = threshold.unwrap_or(Placement::ENVOYS_PANIC_THRESHOLD);
        let mut panics = false;
        let drawn = steps.into_iter().zip(&counts).zip(shares(&counts));
        let drawn = drawn.map(|((step, counts_here), share)| {
            let panic = is_in_panic(*counts_here, &counts, f64::from(threshold));
            panics |= panic && share > 0;
            // Not even then is one asked that says that it is about to leave.
            let takes = |endpoint: &Endpoint| match panic {
                true => endpoint.standing != Standing::Draining,
                false => is_healthy(endpoint),
            };
            let localities = step.into_iter().map(|(_, weight, endpoints)| {
                let all = endpoints.len() as u64;
                let up = endpoints.into_iter().filter(|one| takes(one));
                let up = Drawn::of(up.map(|one| (u64::from(one.weight), one.clone())));
                // With too few that are up, a zone gives away what they cannot carry.
                let carried = match (up.is_empty(), panic) {
                    (true, _) => 0,
                    (false, true) => 100,
                    (false, false) => carries((up.len() as u64, all)),
                };
                (weight * carried, up)
            });
            let localities = Drawn::of(localities);
            match localities.is_empty() {
                true => (0, localities),
                false => (share, localities),
            }
        });
        let mut drawn: Vec<_> = drawn.collect();
        if drawn.iter().all(|(share, _)| *share == 0) {
            // What Envoy's formula sends to one that has nobody is sent to those that have somebody.
            for (share, localities) in &mut drawn {
                *share = u64::from(!localities.is_empty());
            }
        }
        let priorities = Drawn::of(drawn.into_iter());
        let out = service.endpoints_of(version);
        let out: Vec<(&Endpoint, &str)> = out
            .filter_map(|one| Some((one, left_out(one, unhealthy)?)))
            .collect();
        let named = out.iter().take(NAMED_MAX);
        let named = named.map(|(one, why)| format!("{} is {why}", one.id));
        Self {
            left_out: (out.len(), named.collect()),
            all: service.endpoints_of(version).count(),
            priorities,
            panics,
        }
    }

    /// Draws one; none where there is none that takes requests.
    pub(super) fn pick(&self, dice: &mut dyn FnMut() -> u64) -> Option<Picked<'_>> {
        let (priority, localities) = self.priorities.draw(dice)?;
        let (_, endpoints) = localities.draw(dice)?;
        let (_, endpoint) = endpoints.draw(dice)?;
        Some(Picked { endpoint, priority })
    }
}

/// Things to be drawn by weight: by halving, however many there are.
#[derive(Debug)]
struct Drawn<T>(Vec<(u64, T)>);

impl<T> Drawn<T> {
    fn of(weighted: impl Iterator<Item = (u64, T)>) -> Self {
        let mut total = 0_u64;
        let summed = weighted.map(|(weight, one)| {
            total = total.saturating_add(weight);
            (total, one)
        });
        Self(summed.collect())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing can be drawn.
    fn is_empty(&self) -> bool {
        self.0.last().is_none_or(|(total, _)| *total == 0)
    }

    fn draw(&self, dice: &mut dyn FnMut() -> u64) -> Option<(usize, &T)> {
        let total = self.0.last().map(|(total, _)| *total)?;
        let point = dice().checked_rem(total)?;
        let at = self.0.partition_point(|(upto, _)| *upto <= point);
        self.0.get(at).map(|(_, one)| (at, one))
    }
}
