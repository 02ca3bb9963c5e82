//! Whom all servers saw, as one server knows it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use policy::{limit::FleetSize, time::MonoTime, units::ServiceName};

use super::{Pace, ProxyId, Sighting};
use crate::{
    compile::FleetSizes,
    store::{Change, State as Stored, key},
};

/// Proxies that one server remembers: node ids are whatever clients say.
const PROXIES_MAX: usize = 100_000;
/// A server's sighting is forgotten, and goes from the store, after so many times as long as a proxy counts.
const FORGOTTEN_AFTER: u32 = 3;

/// What one server knows.
#[derive(Debug)]
pub struct State {
    me: String,
    pace: Pace,
    /// Of the store's log.
    revision: u64,
    /// Whom this server saw, and when last.
    own: HashMap<(ServiceName, ProxyId), MonoTime>,
    /// Whom others saw.
    others: BTreeMap<Arc<str>, Heard>,
    /// What this server wrote last.
    written: Option<(Sighting, MonoTime)>,
    writings: u64,
    /// What was told last, and when, if it was anything new.
    told: Arc<FleetSizes>,
    told_at: Option<MonoTime>,
    /// At the last look.
    found: Arc<FleetSizes>,
}

/// What another server wrote.
#[derive(Debug)]
struct Heard {
    text: Arc<str>,
    sighting: Sighting,
    at: MonoTime,
}

impl State {
    /// Of a server of this name.
    pub fn new(me: &str, pace: Pace) -> Self {
        Self {
            me: me.into(),
            pace,
            revision: 0,
            own: HashMap::new(),
            others: BTreeMap::new(),
            written: None,
            writings: 0,
            told: Arc::default(),
            told_at: None,
            found: Arc::default(),
        }
    }

    /// Of the log of which everything up to it is known.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes up everything that is kept. What was kept when this server started counts as seen at that moment: its
    /// proxies need time to find it.
    pub fn load(&mut self, stored: &Stored, now: MonoTime) {
        self.others
            .retain(|server, _| stored.values.contains_key(&row(server)));
        let changes = stored.values.iter().map(|(key, value)| Change {
            key: Arc::clone(key),
            value: Some(Arc::clone(value)),
        });
        let changes: Vec<Change> = changes.collect();
        self.apply(stored.revision, &changes, now);
    }

    /// Takes up a revision of the log.
    pub fn apply(&mut self, revision: u64, changes: &[Change], now: MonoTime) {
        self.revision = revision;
        for Change { key, value } in changes {
            let Some(server) = server(key) else { continue };
            match value {
                // What this server wrote it knows; what one of its name wrote before it, it takes over.
                Some(value) if *server == *self.me => {
                    if self.written.is_none() {
                        for (member, proxies) in Sighting::read(value).0 {
                            let seen = proxies.into_iter();
                            self.own
                                .extend(seen.map(|one| ((member.clone(), one), now)));
                        }
                    }
                }
                // What is read again is nothing new.
                Some(value)
                    if self
                        .others
                        .get(&server)
                        .is_some_and(|one| one.text == *value) => {}
                Some(value) => {
                    let heard = Heard {
                        text: Arc::clone(value),
                        sighting: Sighting::read(value),
                        at: now,
                    };
                    self.others.insert(server, heard);
                }
                None => _ = self.others.remove(&server),
            }
        }
    }

    /// Notes a proxy that is connected; false when there are too many to be remembered.
    pub fn see(&mut self, member: ServiceName, proxy: ProxyId, now: MonoTime) -> bool {
        let key = (member, proxy);
        if self.own.len() >= PROXIES_MAX && !self.own.contains_key(&key) {
            return false;
        }
        self.own.insert(key, now);
        true
    }

    /// Forgets what was seen too long ago.
    pub fn forget(&mut self, now: MonoTime) {
        let within = self.pace.seen_within;
        self.own
            .retain(|_, seen| now.saturating_since(*seen) < within);
    }

    /// The store tells nothing at the moment: what others saw holds as it was told last.
    pub fn hold(&mut self, now: MonoTime) {
        for heard in self.others.values_mut() {
            heard.at = now;
        }
    }

    fn seen(&self) -> Sighting {
        let mut seen = Sighting::default();
        for (member, proxy) in self.own.keys() {
            let proxies = seen.0.entry(member.clone()).or_default();
            proxies.insert(*proxy);
        }
        seen
    }

    /// What is to be written into the store: whom this server saw, when that is another than before or was written half
    /// as long ago as it counts; and what nobody needs any more.
    pub fn due(&self, now: MonoTime) -> (Option<Sighting>, Vec<Change>) {
        let seen = self.seen();
        let age = |since: MonoTime| now.saturating_since(since);
        let (every, renewed) = (self.pace.told_every, self.pace.seen_within / 2);
        let is_due = match &self.written {
            None => !seen.0.is_empty(),
            Some((written, at)) => {
                let is_other = *written != seen && age(*at) >= every;
                is_other || (!seen.0.is_empty() && age(*at) >= renewed)
            }
        };
        let mut changes: Vec<Change> = Vec::new();
        let seen = is_due.then_some(seen);
        if let Some(seen) = &seen {
            changes.push(Change {
                key: row(&self.me),
                value: (!seen.0.is_empty()).then(|| seen.kept(self.writings + 1)),
            });
        }
        let forgotten = self.pace.seen_within.saturating_mul(FORGOTTEN_AFTER);
        let gone = self.others.iter();
        let gone = gone.filter(|(_, heard)| age(heard.at) >= forgotten);
        changes.extend(gone.map(|(server, _)| Change {
            key: row(server),
            value: None,
        }));
        (seen, changes)
    }

    /// What was due is in the store.
    pub fn wrote(&mut self, seen: Option<Sighting>, now: MonoTime) {
        if let Some(seen) = seen {
            self.written = Some((seen, now));
            self.writings += 1;
        }
    }

    /// How many proxies each gateway and service has.
    pub fn sizes(&self, now: MonoTime) -> FleetSizes {
        let mut all: BTreeMap<ServiceName, BTreeSet<ProxyId>> = self.seen().0;
        for heard in self.others.values() {
            if now.saturating_since(heard.at) >= self.pace.seen_within {
                continue;
            }
            for (member, proxies) in &heard.sighting.0 {
                let known = all.entry(member.clone()).or_default();
                known.extend(proxies);
            }
        }
        let sizes = all.into_iter();
        FleetSizes::of_members(
            sizes.map(|(member, proxies)| (member, FleetSize::new(proxies.len()))),
        )
    }

    /// What holds at the start, as it was told before.
    pub fn begin(&mut self, now: MonoTime) -> Arc<FleetSizes> {
        self.told = Arc::new(self.sizes(now));
        self.found = Arc::clone(&self.told);
        Arc::clone(&self.told)
    }

    /// The numbers that are to be told now: others than before, and not too soon after those. The first ones wait until
    /// two looks found the same, since a fleet that starts comes within seconds.
    pub fn news(&mut self, now: MonoTime) -> Option<Arc<FleetSizes>> {
        let sizes = Arc::new(self.sizes(now));
        let is_settled = self.found == sizes;
        self.found = Arc::clone(&sizes);
        let is_time = match self.told_at {
            None => is_settled,
            Some(at) => now.saturating_since(at) >= self.pace.told_every,
        };
        (is_time && self.told != sizes).then(|| {
            self.told = Arc::clone(&sizes);
            self.told_at = Some(now);
            sizes
        })
    }
}

/// Where a server's sighting stands in the log.
fn row(server: &str) -> Arc<str> {
    key(&["server", server])
}

fn server(key: &str) -> Option<Arc<str>> {
    let words: Vec<String> = serde_json::from_str(key).ok()?;
    match &words[..] {
        [of, server] if of == "server" => Some(Arc::from(server.as_str())),
        _ => None,
    }
}
