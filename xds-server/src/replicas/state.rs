//! Who is there, who waits and who answered, as one server knows it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Row, Told, Wait, WaitId};
use crate::{
    proxies::rollout::Rejection,
    store::{Change, State as Stored},
};

/// What one server knows.
#[derive(Debug)]
pub struct State {
    me: Arc<str>,
    /// Of the store's log.
    revision: u64,
    /// Servers that are there, this one included.
    servers: BTreeSet<Arc<str>>,
    waits: BTreeMap<WaitId, Wait>,
    told: BTreeMap<WaitId, BTreeMap<Arc<str>, Told>>,
    /// Of this server: those that somebody waits for still.
    mine: BTreeSet<WaitId>,
    numbers: u64,
}

/// What other servers told of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// How many servers there are beside this one.
    pub servers: usize,
    /// Proxies that are connected to those.
    pub proxies: usize,
    /// Some of those that have not answered.
    pub unanswered: Vec<String>,
    /// How many more there are.
    pub unanswered_more: usize,
    /// What was rejected.
    pub rejections: Vec<Rejection>,
    /// Servers that have told nothing yet.
    pub silent: Vec<Arc<str>>,
}

impl State {
    /// Of a server of this name.
    pub fn new(me: &str) -> Self {
        Self {
            me: me.into(),
            revision: 0,
            servers: BTreeSet::new(),
            waits: BTreeMap::new(),
            told: BTreeMap::new(),
            mine: BTreeSet::new(),
            numbers: 0,
        }
    }

    /// Of the log of which everything up to it is known.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes up everything that is kept.
    pub fn load(&mut self, stored: &Stored) {
        self.servers.clear();
        self.waits.clear();
        self.told.clear();
        let changes = stored.values.iter().map(|(key, value)| Change {
            key: Arc::clone(key),
            value: Some(Arc::clone(value)),
        });
        self.apply(stored.revision, &changes.collect::<Vec<_>>());
    }

    /// Takes up a revision of the log. What another version wrote and this one cannot read is not there.
    pub fn apply(&mut self, revision: u64, changes: &[Change]) {
        self.revision = revision;
        for Change { key, value } in changes {
            let value = value.as_deref();
            match Row::read(key) {
                None => {}
                Some(Row::Server(server)) => match value {
                    Some(_) => _ = self.servers.insert(server),
                    None => _ = self.servers.remove(&server),
                },
                Some(Row::Wait(id)) => match value.map(serde_json::from_str) {
                    Some(Ok(wait)) => _ = self.waits.insert(id, wait),
                    Some(Err(_)) | None => _ = self.waits.remove(&id),
                },
                Some(Row::Told(id, by)) => {
                    let all = self.told.entry(id.clone()).or_default();
                    match value.map(serde_json::from_str) {
                        Some(Ok(told)) => _ = all.insert(by, told),
                        Some(Err(_)) | None => _ = all.remove(&by),
                    }
                    if all.is_empty() {
                        self.told.remove(&id);
                    }
                }
            }
        }
    }

    /// Servers that are there beside this one.
    pub fn others(&self) -> impl Iterator<Item = &Arc<str>> {
        self.servers.iter().filter(|server| **server != self.me)
    }

    /// What is to be written that this server is there.
    pub fn arrival(&self) -> Vec<Change> {
        match self.servers.contains(&self.me) {
            true => Vec::new(),
            false => vec![written(&Row::Server(Arc::clone(&self.me)), &self.revision)],
        }
    }

    /// Somebody waits here: whose wait it is, and what is to be written.
    pub fn begin(&mut self, wait: Wait) -> (WaitId, Vec<Change>) {
        self.numbers += 1;
        let id = WaitId {
            server: Arc::clone(&self.me),
            number: self.numbers,
        };
        self.mine.insert(id.clone());
        let row = written(&Row::Wait(id.clone()), &wait);
        (id, vec![row])
    }

    /// Nobody waits any more: what is to be written.
    pub fn end(&mut self, id: &WaitId) -> Vec<Change> {
        self.mine.remove(id);
        self.rows_of(id)
    }

    fn rows_of(&self, id: &WaitId) -> Vec<Change> {
        let wait = self.waits.contains_key(id).then(|| Row::Wait(id.clone()));
        let told = self.told.get(id).into_iter().flat_map(BTreeMap::keys);
        let told = told.map(|by| Row::Told(id.clone(), Arc::clone(by)));
        wait.into_iter().chain(told).map(|row| gone(&row)).collect()
    }

    /// What other servers wait for.
    pub fn asked(&self) -> Vec<(WaitId, Wait)> {
        let asked = self.waits.iter();
        let asked = asked.filter(|(id, _)| id.server != self.me);
        asked.map(|(id, wait)| (id.clone(), *wait)).collect()
    }

    /// What is to be written of an answer of this server.
    pub fn answer(&self, id: &WaitId, told: &Told) -> Change {
        written(&Row::Told(id.clone(), Arc::clone(&self.me)), told)
    }

    /// What other servers told so far. Only of those that are there: who died has rejected nothing, and holds nobody up.
    pub fn heard(&self, id: &WaitId) -> Heard {
        let mut heard = Heard::default();
        let told = self.told.get(id);
        for server in self.others() {
            heard.servers += 1;
            let Some(told) = told.and_then(|told| told.get(server)) else {
                heard.silent.push(Arc::clone(server));
                continue;
            };
            heard.proxies += told.proxies;
            heard.unanswered.extend(told.unanswered.iter().cloned());
            heard.unanswered_more += told.unanswered_more;
            heard.rejections.extend(told.rejections.iter().cloned());
        }
        heard
    }

    /// What is to be written when these servers are gone: nothing of theirs is left.
    pub fn leave(&self, left: &[Arc<str>]) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for server in left {
            changes.push(gone(&Row::Server(Arc::clone(server))));
        }
        let theirs = self.waits.keys().chain(self.told.keys());
        let theirs: BTreeSet<&WaitId> = theirs.filter(|id| left.contains(&id.server)).collect();
        changes.extend(theirs.into_iter().flat_map(|id| self.rows_of(id)));
        let told = self
            .told
            .iter()
            .filter(|(id, _)| !left.contains(&id.server));
        for (id, told) in told {
            let by = told.keys().filter(|by| left.contains(by));
            changes.extend(by.map(|by| gone(&Row::Told(id.clone(), Arc::clone(by)))));
        }
        changes
    }

    /// What this server wrote and nobody needs: the store did not answer at that time, or an answer came too late.
    pub fn leftovers(&self) -> Vec<Change> {
        let waits = self.waits.keys();
        let waits = waits.filter(|id| id.server == self.me && !self.mine.contains(id));
        let waits = waits.map(|id| gone(&Row::Wait(id.clone())));
        let told = self.told.iter();
        let told =
            told.filter(|(id, by)| !self.waits.contains_key(*id) && by.contains_key(&self.me));
        let told = told.map(|(id, _)| gone(&Row::Told(id.clone(), Arc::clone(&self.me))));
        waits.chain(told).collect()
    }
}

fn written(row: &Row, value: &impl serde::Serialize) -> Change {
    // Texts and numbers alone: it cannot fail.
    let value = serde_json::to_string(value).unwrap_or_default();
    Change {
        key: row.key(),
        value: Some(value.into()),
    }
}

fn gone(row: &Row) -> Change {
    Change {
        key: row.key(),
        value: None,
    }
}
