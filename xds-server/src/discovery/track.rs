//! One type of one stream: where its client stands, and what it answered.

use std::sync::Arc;

use super::{
    Name, Payload, Position,
    refusals::{Refusals, Refused},
};
use crate::resource::{Collection, Instead, ResourceType};

/// A rejected response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Version of the response.
    pub version: Arc<str>,
    /// Number of the view that the response told.
    pub update: u64,
    /// The client's words.
    pub message: String,
}

/// What a client made of what it was sent of one type.
#[derive(Debug)]
pub struct Status {
    /// What it wants and has.
    pub position: Arc<Position>,
    /// Version of the newest response; empty when none was sent.
    pub sent: Arc<str>,
    /// Version of the newest one that was accepted.
    pub acked: Arc<str>,
    /// The newest rejection, until the client has what there is, or something newer than what it rejected.
    pub nack: Option<Nack>,
    /// What it rejected, by name, for as long as there is nothing else to send.
    pub refused: Arc<[Refused]>,
    /// What it is not sent because of what it rejected.
    pub held: Arc<[Held]>,
    /// The newest response waits for its answer.
    pub waiting: bool,
    /// Where the client stood when it had last answered, while a response waits.
    pub before: Option<Arc<Position>>,
}

impl Clone for Status {
    fn clone(&self) -> Self {
        Self {
            position: Arc::clone(&self.position),
            sent: Arc::clone(&self.sent),
            acked: Arc::clone(&self.acked),
            nack: self.nack.clone(),
            refused: Arc::clone(&self.refused),
            held: Arc::clone(&self.held),
            waiting: self.waiting,
            before: self.before.clone(),
        }
    }

    /// It is noted twice for each response, and most of it is the same as before: that costs no count of
    /// references which all streams share.
    fn clone_from(&mut self, source: &Self) {
        fn follow<T: ?Sized>(ours: &mut Arc<T>, theirs: &Arc<T>) {
            if !Arc::ptr_eq(ours, theirs) {
                *ours = Arc::clone(theirs);
            }
        }
        follow(&mut self.position, &source.position);
        follow(&mut self.sent, &source.sent);
        follow(&mut self.acked, &source.acked);
        follow(&mut self.refused, &source.refused);
        follow(&mut self.held, &source.held);
        if self.nack.is_some() || source.nack.is_some() {
            self.nack.clone_from(&source.nack);
        }
        self.waiting = source.waiting;
        match (&mut self.before, &source.before) {
            (Some(ours), Some(theirs)) => follow(ours, theirs),
            (ours, theirs) => ours.clone_from(theirs),
        }
    }
}

/// A resource that is not sent, since the client could not use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: Name,
    /// The type of what it needs.
    pub kind: ResourceType,
    /// The name of what it needs, which the client rejected.
    pub because: Name,
}

/// What a request was, besides a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answers no response, or an old one.
    None,
    /// The newest response was accepted.
    Ack,
    /// The newest response was rejected.
    Nack,
}

/// One type of one stream.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) status: Status,
    /// Of the newest response.
    pub(super) nonce: u64,
    /// Of the newest response that was accepted, or was the newest of all when it was rejected: what came after it may
    /// be under way still.
    pub(super) seen: u64,
    /// Of the newest response that must be seen before a change under way goes on.
    pub(super) gate: u64,
    /// Of the view that it told.
    update: u64,
    /// Of the newest request's names.
    pub(super) fingerprint: u128,
    /// The newest response was rejected.
    pub(super) rejected: bool,
    /// The client knows all of this one, removals included.
    pub(super) done: Option<Arc<Collection>>,
    /// State of the world: asked the same once more, it is answered once more, since something came or
    /// what names it changed.
    pub(super) repeatable: bool,
    /// The newest response, while it waits for its answer.
    open: Option<Arc<Payload>>,
    refusals: Refusals,
    /// What the client had of what is held.
    had: Vec<(Name, Instead)>,
    /// What there is, and what the client is offered of it.
    offered: Option<(Arc<Collection>, Arc<Collection>)>,
}

impl Track {
    pub(super) fn new(position: Arc<Position>) -> Self {
        Self {
            status: Status {
                position,
                sent: Arc::default(),
                acked: Arc::default(),
                nack: None,
                refused: Arc::default(),
                held: Arc::default(),
                waiting: false,
                before: None,
            },
            nonce: 0,
            seen: 0,
            gate: 0,
            update: 0,
            fingerprint: 0,
            rejected: false,
            done: None,
            repeatable: false,
            open: None,
            refusals: Refusals::default(),
            had: Vec::new(),
            offered: None,
        }
    }

    pub(super) fn is_done(&self, collection: &Arc<Collection>) -> bool {
        self.done
            .as_ref()
            .is_some_and(|done| Arc::ptr_eq(done, collection))
    }

    pub(super) fn moved(&mut self, to: Arc<Position>) {
        if !Arc::ptr_eq(&self.status.position, &to) {
            self.status.position = to;
            self.done = None;
        }
    }

    /// A response went out, to a client that stood at `before`.
    pub(super) fn sent(
        &mut self,
        (update, nonce): (u64, u64),
        payload: &Arc<Payload>,
        before: &Arc<Position>,
    ) {
        (self.update, self.nonce) = (update, nonce);
        self.status.sent = Arc::clone(&payload.version);
        self.status.waiting = true;
        self.rejected = false;
        self.repeatable = true;
        self.open = Some(Arc::clone(payload));
        let before = || Arc::clone(before);
        self.status.before.get_or_insert_with(before);
    }

    pub(super) fn answered(&mut self, error: Option<String>) -> Answer {
        self.status.waiting = false;
        self.seen = self.nonce;
        let version = Arc::clone(&self.status.sent);
        let open = self.open.take().zip(self.status.before.take());
        let accepted = |payload: &Payload, one: &Refused| {
            let mut resources = payload.resources.iter();
            resources.any(|resource| resource.name == one.name && resource.version == one.version)
        };
        match (error, open) {
            (None, open) => {
                if let Some((payload, _)) = open {
                    self.lift(|one| !accepted(&payload, one));
                }
                self.status.acked = version;
                if self.refusals.is_empty() {
                    self.status.nack = None;
                }
                Answer::Ack
            }
            (Some(message), open) => {
                self.rejected = true;
                self.repeatable = false;
                if let Some((payload, before)) = open {
                    self.refusals.rejected(&payload, &before, &message);
                    self.refusals_changed();
                }
                self.status.nack = Some(Nack {
                    version,
                    update: self.update,
                    message,
                });
                Answer::Nack
            }
        }
    }

    /// Forgets rejections that this does not hold for any more.
    pub(super) fn lift(&mut self, holds: impl Fn(&Refused) -> bool) {
        if self.refusals.retain(holds) {
            self.refusals_changed();
        }
    }

    /// There is this now: what was rejected and is no more is forgotten.
    pub(super) fn see(&mut self, collection: &Collection) {
        if self.refusals.retain_in_force(collection) {
            self.refusals_changed();
        }
    }

    fn refusals_changed(&mut self) {
        self.status.refused = Arc::clone(self.refusals.all());
        self.offered = None;
        self.done = None;
    }

    /// The client has all there is, without a new response. Whether that ends a rejection.
    pub(super) fn is_mended(&mut self) -> bool {
        let is_over = self.refusals.is_empty() && !self.rejected && !self.status.waiting;
        is_over && self.status.nack.take().is_some()
    }

    /// Whether something that the client rejected is still all there is.
    pub(super) fn refuses(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Resources that the client rejected and has no version of.
    pub(super) fn unusable(&self) -> impl Iterator<Item = &Name> {
        self.refusals.unusable()
    }

    /// Resources that the client rejected, and which it must not lose though they are not here any more.
    pub(super) fn unsendable(&self) -> impl Iterator<Item = &Name> {
        self.refusals.unsendable()
    }

    /// These wait for what they name. Whether that is new.
    pub(super) fn hold(&mut self, held: Vec<Held>) -> bool {
        if *self.status.held == *held {
            return false;
        }
        let position = &self.status.position;
        let had = held.iter().map(|held| {
            let earlier = self.had.iter().find(|(name, _)| *name == held.name);
            let earlier = earlier.and_then(|(_, had)| had.clone());
            let had = position.sent(&held.name).cloned();
            (Arc::clone(&held.name), had.or(earlier))
        });
        self.had = had.collect();
        self.status.held = held.into();
        self.offered = None;
        self.done = None;
        true
    }

    /// What the client is offered of what there is.
    pub(super) fn offered(
        &mut self,
        collection: &Arc<Collection>,
        is_full_state: bool,
    ) -> Arc<Collection> {
        if self.refusals.is_empty() && self.status.held.is_empty() {
            return Arc::clone(collection);
        }
        if let Some((known, offered)) = &self.offered
            && Arc::ptr_eq(known, collection)
        {
            return Arc::clone(offered);
        }
        let mut withheld: Vec<(Name, Instead)> = self.refusals.instead(is_full_state).collect();
        withheld.retain(|(name, _)| !self.had.iter().any(|(held, _)| held == name));
        withheld.extend(self.had.iter().cloned());
        let offered = Arc::new(collection.withholding(withheld));
        self.offered = Some((Arc::clone(collection), Arc::clone(&offered)));
        offered
    }
}
