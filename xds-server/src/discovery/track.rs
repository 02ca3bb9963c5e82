//! One type of one stream: where its client stands, and what it answered.

use std::sync::Arc;

use super::{Payload, Position};
use crate::resource::Collection;

/// A rejected response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Version of the response.
    pub version: Arc<str>,
    /// The client's words.
    pub message: String,
}

/// What a client made of what it was sent of one type.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it wants and has.
    pub position: Arc<Position>,
    /// Version of the newest response; empty when none was sent.
    pub sent: Arc<str>,
    /// Version of the newest one that was accepted.
    pub acked: Arc<str>,
    /// The newest answer, when it was a rejection.
    pub nack: Option<Nack>,
    /// The newest response waits for its answer.
    pub waiting: bool,
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
    /// Of the newest request's names.
    pub(super) fingerprint: u128,
    /// The newest response was rejected.
    pub(super) rejected: bool,
    /// The client knows all of this one, removals included.
    pub(super) done: Option<Arc<Collection>>,
}

impl Track {
    pub(super) fn new(position: Arc<Position>) -> Self {
        Self {
            status: Status {
                position,
                sent: Arc::default(),
                acked: Arc::default(),
                nack: None,
                waiting: false,
            },
            nonce: 0,
            fingerprint: 0,
            rejected: false,
            done: None,
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

    pub(super) fn sent(&mut self, nonce: u64, payload: &Payload) {
        self.nonce = nonce;
        self.status.sent = Arc::clone(&payload.version);
        self.status.waiting = true;
        self.rejected = false;
    }

    pub(super) fn answered(&mut self, error: Option<String>) -> Answer {
        self.status.waiting = false;
        let version = Arc::clone(&self.status.sent);
        match error {
            None => {
                self.status.acked = version;
                self.status.nack = None;
                Answer::Ack
            }
            Some(message) => {
                self.rejected = true;
                self.status.nack = Some(Nack { version, message });
                Answer::Nack
            }
        }
    }
}
