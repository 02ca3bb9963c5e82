//! All that registered, and the leases. What comes next is decided here, and carried out when it comes back from
//! the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use policy::{
    time::{MonoTime, Now},
    units::ServiceName,
};

use super::{Instance, InstanceId, Phase, vanish::fallen};
use crate::{
    mesh::Mesh,
    store::{self, Change},
};

/// After a start, a restore, or while a keeper's heartbeats are not known: so many TTLs.
const GRACE: u32 = 3;
/// How long other servers have to say that they have heard of an instance.
const ANSWER: Duration = Duration::from_secs(1);

/// The instances of a service, by id.
pub(super) type Instances = BTreeMap<String, Held>;

/// An instance and its lease.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) instance: Arc<Instance>,
    pub(super) lease: Lease,
}

/// What is known here of an instance's heartbeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    /// When its keeper takes it for gone.
    pub(super) until: MonoTime,
    /// The last heartbeat that came here.
    pub(super) heard: Option<Now>,
    /// Since when its phase is known here.
    moved: MonoTime,
}

/// What an instance is to become; None: it is forgotten.
pub(super) type Becomes = (InstanceId, Option<Instance>);

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nobody of this name is registered.
    Unknown,
    /// It counts.
    Heard,
    /// It counts, and changes how the instance stands: look what is due.
    Returns,
}

/// All instances.
#[derive(Debug)]
pub struct State {
    /// The name of this server among those that share the store; empty where none do.
    me: Arc<str>,
    is_shared: bool,
    revision: u64,
    services: BTreeMap<ServiceName, Instances>,
    /// Keepers that are gone.
    gone: BTreeSet<Arc<str>>,
}

/// What comes next for one instance.
enum Step {
    Nothing,
    Becomes(Instance),
    /// Its lease has ended.
    Lapses,
    Forgotten,
}

impl State {
    /// Nothing yet. `me` names this server among those that share the store, where they do.
    pub fn new(me: Option<&str>) -> Self {
        Self {
            me: me.unwrap_or_default().into(),
            is_shared: me.is_some(),
            revision: 0,
            services: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// The revision of the log that it shows.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The name of this server.
    pub fn me(&self) -> &Arc<str> {
        &self.me
    }

    /// This server has another name from now on.
    pub fn rename(&mut self, me: &str) {
        self.me = me.into();
    }

    /// Every service with instances.
    pub(super) fn services(&self) -> &BTreeMap<ServiceName, Instances> {
        &self.services
    }

    /// The instances of a service.
    pub(super) fn instances(&self, service: &ServiceName) -> &Instances {
        static NONE: Instances = Instances::new();
        self.services.get(service).unwrap_or(&NONE)
    }

    pub(super) fn held(&self, id: &InstanceId) -> Option<&Held> {
        self.services.get(&id.service)?.get(&id.id)
    }

    /// All other servers that watch a lease.
    pub fn keepers(&self) -> BTreeSet<Arc<str>> {
        let instances = self.services.values().flat_map(BTreeMap::values);
        let keepers = instances.map(|held| &held.instance.keeper);
        keepers
            .filter(|keeper| **keeper != self.me && !keeper.is_empty())
            .map(Arc::clone)
            .collect()
    }

    /// These keepers are gone, and this server alone knows it: their instances are its own.
    pub fn set_gone(&mut self, gone: BTreeSet<Arc<str>>) {
        self.gone = gone;
    }

    /// Everything that holds, in the place of what was known. Who was not known has grace.
    pub fn load(&mut self, kept: &store::State, now: Now) -> BTreeSet<ServiceName> {
        let mut before = std::mem::take(&mut self.services);
        let mut others: BTreeSet<ServiceName> = before.keys().cloned().collect();
        for (key, value) in &kept.values {
            let Some((id, instance)) = read(key, value) else {
                continue;
            };
            let known = before
                .get_mut(&id.service)
                .and_then(|instances| instances.remove(&id.id));
            others.insert(id.service.clone());
            let grace = now.mono.saturating_add(instance.ttl * GRACE);
            let lease = match known {
                Some(known) => self.lease_after(&known, &instance, now),
                None => Lease {
                    until: grace,
                    heard: None,
                    moved: now.mono,
                },
            };
            self.hold(id, instance, lease);
        }
        self.revision = kept.revision;
        others
    }

    /// Takes up a revision: services of which something is another.
    pub fn apply(&mut self, revision: u64, changes: &[Change], now: Now) -> BTreeSet<ServiceName> {
        self.revision = revision;
        let becomes = changes.iter().filter_map(|change| {
            let Some(value) = &change.value else {
                return Some((InstanceId::of_key(&change.key)?, None));
            };
            read(&change.key, value).map(|(id, instance)| (id, Some(instance)))
        });
        self.become_all(becomes, now)
    }

    /// The same of what the store does not take, so that silence counts while a disk is full.
    pub(super) fn become_all(
        &mut self,
        becomes: impl IntoIterator<Item = Becomes>,
        now: Now,
    ) -> BTreeSet<ServiceName> {
        let mut others = BTreeSet::new();
        for (id, becomes) in becomes {
            others.insert(id.service.clone());
            let Some(instance) = becomes else {
                self.forget(&id);
                continue;
            };
            let lease = match self.held(&id) {
                Some(known) => self.lease_after(known, &instance, now),
                None => Lease {
                    until: now.mono.saturating_add(instance.ttl),
                    heard: None,
                    moved: now.mono,
                },
            };
            self.hold(id, instance, lease);
        }
        others
    }

    fn hold(&mut self, id: InstanceId, instance: Instance, lease: Lease) {
        let held = Held {
            instance: Arc::new(instance),
            lease,
        };
        self.services
            .entry(id.service)
            .or_default()
            .insert(id.id, held);
    }

    fn forget(&mut self, id: &InstanceId) {
        if let Some(instances) = self.services.get_mut(&id.service) {
            instances.remove(&id.id);
            if instances.is_empty() {
                self.services.remove(&id.service);
            }
        }
    }

    fn lease_after(&self, before: &Held, instance: &Instance, now: Now) -> Lease {
        let mut lease = before.lease;
        if before.instance.phase != instance.phase {
            lease.moved = now.mono;
        }
        let becomes_mine = self.is_mine(instance) && !self.is_mine(&before.instance);
        let returns = before.instance.phase.is_silent() && !instance.phase.is_silent();
        if becomes_mine || returns {
            let from_now = now.mono.saturating_add(instance.ttl * GRACE);
            lease.until = match lease.heard {
                Some(heard) if is_lately(heard, instance, now) => {
                    heard.mono.saturating_add(instance.ttl)
                }
                _ => from_now,
            };
        }
        if self.is_mine(instance) && instance.is_asked && !before.instance.is_asked {
            lease.until = now.mono.saturating_add(ANSWER);
        }
        lease
    }

    fn is_mine(&self, instance: &Instance) -> bool {
        !self.is_shared || instance.keeper == self.me
    }

    /// Nobody watches its lease.
    fn is_orphan(&self, instance: &Instance) -> bool {
        let keeper = &instance.keeper;
        self.is_shared && *keeper != self.me && (keeper.is_empty() || self.gone.contains(&**keeper))
    }

    /// A heartbeat.
    pub fn beat(&mut self, service: &str, id: &str, now: Now) -> Beat {
        let instances = self.services.get_mut(service);
        let Some(held) = instances.and_then(|instances| instances.get_mut(id)) else {
            return Beat::Unknown;
        };
        held.lease.heard = Some(now);
        let until = now.mono.saturating_add(held.instance.ttl);
        held.lease.until = held.lease.until.max(until);
        match held.instance.phase.is_silent() || held.instance.is_asked {
            true => Beat::Returns,
            false => Beat::Heard,
        }
    }

    /// It registered: its lease begins anew.
    pub fn begin(&mut self, service: &str, id: &str, now: Now) {
        let instances = self.services.get_mut(service);
        if let Some(held) = instances.and_then(|instances| instances.get_mut(id)) {
            held.lease.heard = Some(now);
            held.lease.until = now.mono.saturating_add(held.instance.ttl);
        }
    }

    /// Heartbeats may have come to others, or to nobody, for a while: nobody is taken for gone for that.
    pub fn give_grace(&mut self, now: Now) {
        for held in self.services.values_mut().flat_map(BTreeMap::values_mut) {
            let grace = now.mono.saturating_add(held.instance.ttl * GRACE);
            held.lease.until = held.lease.until.max(grace);
        }
    }

    /// What instances are to become now.
    pub(super) fn due(&self, mesh: &Mesh, now: Now) -> Vec<Becomes> {
        let mut due = Vec::new();
        for (service, instances) in &self.services {
            let of = |id: &String| InstanceId {
                service: service.clone(),
                id: id.clone(),
            };
            let mut lapsing = Vec::new();
            for (id, held) in instances {
                match self.step(held, now) {
                    Step::Nothing => {}
                    Step::Becomes(instance) => due.push((of(id), Some(instance))),
                    Step::Forgotten => due.push((of(id), None)),
                    Step::Lapses => lapsing.push((id, held)),
                }
            }
            if lapsing.is_empty() {
                continue;
            }
            let said = mesh.services.get(service);
            let said = said.map_or(0, |service| service.endpoints.len());
            let fallen = fallen(said, instances, lapsing, now);
            due.extend(fallen.map(|(id, instance)| (of(id), Some(instance))));
        }
        due
    }

    fn step(&self, held: &Held, now: Now) -> Step {
        let Held { instance, lease } = held;
        let is_heard = lease
            .heard
            .is_some_and(|heard| is_lately(heard, instance, now));
        let mine = || Instance {
            keeper: Arc::clone(&self.me),
            is_asked: false,
            ..Instance::clone(instance)
        };
        if is_heard && instance.phase.is_silent() {
            return Step::Becomes(moved(&mine(), Phase::Up, now));
        }
        if (is_heard && instance.is_asked) || self.is_orphan(instance) {
            return Step::Becomes(mine());
        }
        if !self.is_mine(instance) {
            return Step::Nothing;
        }
        let is_over = lease.until <= now.mono;
        match instance.phase {
            Phase::Expired if !is_recent(held, now) => Step::Forgotten,
            Phase::Expired | Phase::Vanished => Step::Nothing,
            Phase::Up | Phase::Draining if !is_over => Step::Nothing,
            Phase::Up | Phase::Draining if self.is_shared && !instance.is_asked => {
                Step::Becomes(Instance {
                    is_asked: true,
                    ..mine()
                })
            }
            // It said that it would leave.
            Phase::Draining => Step::Forgotten,
            Phase::Up => Step::Lapses,
        }
    }
}

/// Whether its phase began within its last TTL.
pub(super) fn is_recent(held: &Held, now: Now) -> bool {
    held.lease.moved.saturating_add(held.instance.ttl) > now.mono
}

fn is_lately(heard: Now, instance: &Instance, now: Now) -> bool {
    heard.mono.saturating_add(instance.ttl) > now.mono
}

pub(super) fn moved(instance: &Instance, phase: Phase, now: Now) -> Instance {
    let since = match instance.phase == phase {
        true => instance.since,
        false => now.wall,
    };
    Instance {
        phase,
        since,
        ..instance.clone()
    }
}

fn read(key: &str, value: &str) -> Option<(InstanceId, Instance)> {
    let id = InstanceId::of_key(key)?;
    let instance = Instance::of_kept(&id.id, value)?;
    Some((id, instance))
}
