//! One type of one stream: what the client wants, what it was sent, what it said to that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use xxhash_rust::xxh64::Xxh64;

use super::{Interest, Request, Variant};
use crate::resource::{Resource, ResourceType, View};

const WILDCARD: &str = "*";

/// What the client knows of one name.
#[derive(Debug, Clone)]
enum Known {
    /// That there is no such resource (delta only).
    Absent,
    /// A version that it kept from an earlier stream.
    Kept(String),
    /// A resource of this stream.
    Sent(Arc<Resource>),
}

impl Known {
    fn version(&self) -> &str {
        match self {
            Self::Absent => "",
            Self::Kept(version) => version,
            Self::Sent(resource) => &resource.version,
        }
    }
}

/// A rejected response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Version of the response.
    pub version: String,
    /// The client's words.
    pub message: String,
}

/// What a client made of what it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Version of the newest response.
    pub sent: String,
    /// Version of the newest one that was accepted.
    pub acked: String,
    /// The newest answer, when it was a rejection.
    pub nack: Option<Nack>,
    /// How many resources the client has, or was offered.
    pub resources: usize,
}

/// What is to be sent now.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) removed: Vec<String>,
    /// Sent even if it holds nothing: an empty state is an answer too.
    pub(super) even_if_empty: bool,
}

impl Difference {
    pub(super) fn is_nothing(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty() && !self.even_if_empty
    }
}

/// Whether removals are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removals {
    /// Not yet: something may still use what goes.
    Hold,
    /// Now.
    Tell,
}

/// One type of one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    variant: Variant,
    begun: bool,
    wildcard: bool,
    /// State of the world: names were given once, so an empty list is no wildcard any more.
    named_once: bool,
    names: BTreeSet<String>,
    known: BTreeMap<String, Known>,
    /// State of the world: the next response must be sent although nothing changed.
    owed: bool,
    nonce: String,
    /// The newest response waits for its answer.
    pub(super) unanswered: bool,
    /// The newest response was rejected.
    pub(super) rejected: bool,
    pub(super) status: Status,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType, variant: Variant) -> Self {
        Self {
            kind,
            variant,
            begun: false,
            wildcard: false,
            named_once: false,
            names: BTreeSet::new(),
            known: BTreeMap::new(),
            owed: false,
            nonce: String::new(),
            unanswered: false,
            rejected: false,
            status: Status::default(),
        }
    }

    /// Takes a request in. What must be sent now is found by [`difference`](Self::difference).
    pub(super) fn on_request(&mut self, request: Request, view: &View) {
        let answers_newest = !request.nonce.is_empty() && request.nonce == self.nonce;
        let was_unanswered = self.unanswered;
        if answers_newest {
            self.answered(request.error);
        }
        let first = !self.begun;
        match request.interest {
            Interest::Names { names, version } => {
                // A request that answers an older response was overtaken: a newer one follows.
                if first || answers_newest || request.nonce.is_empty() {
                    self.begun = true;
                    let repeated = answers_newest && !was_unanswered;
                    self.want(names, first, repeated);
                    if first && !version.is_empty() {
                        self.assume(&version, view);
                    }
                }
            }
            Interest::Changes {
                subscribe,
                unsubscribe,
                known,
            } => {
                self.begun = true;
                self.change(subscribe, unsubscribe, first, known);
            }
        }
    }

    fn answered(&mut self, error: Option<String>) {
        if !self.unanswered {
            return;
        }
        self.unanswered = false;
        let version = self.status.sent.clone();
        match error {
            None => {
                self.status.acked = version;
                self.status.nack = None;
            }
            Some(message) => {
                self.rejected = true;
                self.status.nack = Some(Nack { version, message });
            }
        }
    }

    /// State of the world: the names wanted from now on.
    fn want(&mut self, names: Vec<String>, first: bool, repeated: bool) {
        let mut names: BTreeSet<String> = names.into_iter().collect();
        let star = names.remove(WILDCARD);
        let given = star || !names.is_empty();
        let wildcard = star || (!given && self.kind.is_full_state() && (first || !self.named_once));
        self.named_once |= given;
        let newly_named: Vec<String> = names.difference(&self.names).cloned().collect();
        let newly_wild = wildcard && !self.wildcard;
        self.names = names;
        self.wildcard = wildcard;
        for name in &newly_named {
            self.known.remove(name);
        }
        let Self { known, names, .. } = self;
        known.retain(|name, _| wildcard || names.contains(name));
        // The same names once more, with nothing to answer: Envoy warms a changed cluster or
        // listener and waits to be told again what it needs.
        if repeated && newly_named.is_empty() && !newly_wild {
            self.known.clear();
            self.owed = self.kind.is_full_state() && (wildcard || !self.names.is_empty());
        }
        if self.kind.is_full_state() && (first || newly_wild || !newly_named.is_empty()) {
            self.owed = wildcard || !self.names.is_empty();
        }
    }

    /// State of the world, first request of a stream: versions are derived from content, so a client
    /// that names the version we would send has it all.
    fn assume(&mut self, version: &str, view: &View) {
        let wanted: BTreeMap<String, Known> = self
            .wanted(view)
            .map(|resource| (resource.name.to_string(), Known::Sent(Arc::clone(resource))))
            .collect();
        if version_of(&wanted) == version {
            self.known = wanted;
            self.owed = false;
            self.status.sent = version.to_string();
            self.status.acked = version.to_string();
            self.status.resources = self.known.len();
        }
    }

    /// Delta: changes of what is wanted.
    fn change(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        first: bool,
        kept: HashMap<String, String>,
    ) {
        for name in unsubscribe {
            if name == WILDCARD {
                self.wildcard = false;
                let names = &self.names;
                self.known.retain(|name, _| names.contains(name));
                continue;
            }
            let named = self.names.remove(&name);
            // Under a wildcard that stays, the resource stays too and is told again.
            if named || !self.wildcard {
                self.known.remove(&name);
            }
        }
        if first && subscribe.is_empty() && self.kind.is_full_state() {
            self.wildcard = true;
            self.owed = true;
        }
        for name in subscribe {
            if name == WILDCARD {
                self.owed |= !self.wildcard;
                self.wildcard = true;
                continue;
            }
            // Named again is told again.
            self.known.remove(&name);
            self.names.insert(name);
        }
        if first {
            let kept = kept
                .into_iter()
                .filter(|(name, _)| self.wildcard || self.names.contains(name));
            self.known = kept
                .map(|(name, version)| (name, Known::Kept(version)))
                .collect();
            // Who comes back and misses nothing is left alone.
            self.owed &= self.known.is_empty();
        }
    }

    /// The resources that the client wants and that exist.
    fn wanted<'v>(&'v self, view: &'v View) -> impl Iterator<Item = &'v Arc<Resource>> {
        let all = self.wildcard.then(|| view.resources(self.kind));
        let named = (!self.wildcard).then(|| {
            let names = self.names.iter();
            names.filter_map(|name| view.get(self.kind, name))
        });
        all.into_iter().flatten().chain(named.into_iter().flatten())
    }

    /// What the client must be told so that it knows `view`.
    pub(super) fn difference(&self, view: &View, removals: Removals) -> Difference {
        let mut difference = Difference {
            even_if_empty: self.owed,
            ..Difference::default()
        };
        for resource in self.wanted(view) {
            let same = self
                .known
                .get(&*resource.name)
                .is_some_and(|known| *known.version() == *resource.version);
            if !same {
                difference.resources.push(Arc::clone(resource));
            }
        }
        let gone = |name: &&String| view.get(self.kind, name).is_none();
        match self.variant {
            Variant::Delta => {
                let lost = self
                    .known
                    .iter()
                    .filter(|(_, known)| !matches!(known, Known::Absent));
                if removals == Removals::Tell {
                    let lost = lost.map(|(name, _)| name).filter(gone);
                    difference.removed.extend(lost.cloned());
                }
                // A name that never was is told at once: nobody uses it.
                let never = self
                    .names
                    .iter()
                    .filter(|name| !self.known.contains_key(*name));
                difference.removed.extend(never.filter(gone).cloned());
            }
            Variant::StateOfTheWorld if self.kind.is_full_state() => {
                let lost = self.known.keys().any(|name| gone(&name));
                if removals == Removals::Tell && lost {
                    difference.even_if_empty = true;
                }
                if !difference.is_nothing() {
                    difference.resources = self.full_state(view, removals);
                }
            }
            Variant::StateOfTheWorld => {}
        }
        difference
    }

    /// All that a full-state response holds: what exists, and what must not go yet.
    fn full_state(&self, view: &View, removals: Removals) -> Vec<Arc<Resource>> {
        let mut all: Vec<Arc<Resource>> = self.wanted(view).cloned().collect();
        if removals == Removals::Hold {
            let held = self.known.values().filter_map(|known| match known {
                Known::Sent(resource) if view.get(self.kind, &resource.name).is_none() => {
                    Some(Arc::clone(resource))
                }
                _ => None,
            });
            all.extend(held);
        }
        all
    }

    /// Notes that a difference was sent, and gives its version. Also names what the client had in
    /// another version, and what it has for the first time.
    pub(super) fn sent(&mut self, difference: &Difference, nonce: &str, view: &View) -> Sent {
        let mut sent = Sent::default();
        for resource in &difference.resources {
            let known = Known::Sent(Arc::clone(resource));
            match self.known.insert(resource.name.to_string(), known) {
                Some(Known::Absent) | None => sent.new.push(resource.name.to_string()),
                Some(old) if *old.version() != *resource.version => {
                    sent.changed.push(resource.name.to_string());
                }
                Some(_) => {}
            }
        }
        for name in &difference.removed {
            if self.names.contains(name) {
                self.known.insert(name.clone(), Known::Absent);
            } else {
                self.known.remove(name);
            }
        }
        if self.variant == Variant::StateOfTheWorld && self.kind.is_full_state() {
            let held: BTreeSet<&str> = difference
                .resources
                .iter()
                .map(|resource| &*resource.name)
                .collect();
            self.known.retain(|name, _| held.contains(name.as_str()));
        } else if self.variant == Variant::StateOfTheWorld {
            self.forget_gone(view);
        }
        self.owed = false;
        self.unanswered = true;
        self.rejected = false;
        self.nonce = nonce.to_string();
        self.status.sent = version_of(&self.known);
        self.status.resources = self.known.len();
        sent
    }

    /// State of the world has no word for removals of these types: what comes back is told anew.
    pub(super) fn forget_gone(&mut self, view: &View) {
        if self.variant == Variant::StateOfTheWorld && !self.kind.is_full_state() {
            let kind = self.kind;
            self.known.retain(|name, _| view.get(kind, name).is_some());
        }
    }

    /// Tells this name again with the next difference, if the client has it.
    pub(super) fn tell_again(&mut self, name: &str) {
        if self.has(name) {
            self.known.remove(name);
        }
    }

    /// Whether the client was sent a resource of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        matches!(self.known.get(name), Some(Known::Sent(_) | Known::Kept(_)))
    }

    /// Every name the client knows.
    pub(super) fn known_names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }
}

/// What a response told, by name.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) new: Vec<String>,
    pub(super) changed: Vec<String>,
}

/// Derived from content: equal sets have equal versions, on every replica.
fn version_of(known: &BTreeMap<String, Known>) -> String {
    let mut hash = Xxh64::new(0);
    for (name, known) in known {
        if !matches!(known, Known::Absent) {
            hash.update(name.as_bytes());
            hash.update(&[0]);
            hash.update(known.version().as_bytes());
            hash.update(&[0]);
        }
    }
    format!("{:016x}", hash.digest())
}
