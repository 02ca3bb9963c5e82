//! What servers on one store tell each other of a change that somebody waits for: who waits says so in the store, every
//! other server answers there with what its proxies made of it, and whoever is gone is waited for no more. While nobody
//! waits, nothing is written but that a server is there, once.

pub mod owner;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::state::{Heard, State};
use crate::{
    proxies::rollout::{Look, Rejection},
    store::key,
};

/// Of each server, in one answer: what more there is nobody would read.
const REJECTIONS_MAX: usize = 10;
const NAMES_MAX: usize = 20;
const NODES_MAX: usize = 100;
const CHARS_MAX: usize = 500;

/// One wait of one server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitId {
    server: Arc<str>,
    number: u64,
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The revision of the mesh.
    pub revision: u64,
    /// The call made it; else it was in force already.
    pub is_new: bool,
}

/// What the proxies of one server made of it so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    proxies: usize,
    unanswered: Vec<String>,
    unanswered_more: usize,
    rejections: Vec<Rejection>,
}

impl Told {
    /// What a look found, no longer than anybody reads.
    pub fn of(look: &Look) -> Self {
        let rejections = look.rejections.iter().take(REJECTIONS_MAX);
        Self {
            proxies: look.nodes.len(),
            unanswered: look.pending.iter().take(NODES_MAX).cloned().collect(),
            unanswered_more: look.pending.len().saturating_sub(NODES_MAX),
            rejections: rejections.map(cut).collect(),
        }
    }

    /// Whether it is more than one answer fewer.
    fn is_news_after(&self, before: &Self) -> bool {
        self.rejections != before.rejections
            || self.unanswered.is_empty() != before.unanswered.is_empty()
    }
}

fn cut(rejection: &Rejection) -> Rejection {
    let names = rejection.resources.iter().take(NAMES_MAX);
    Rejection {
        resources: names.cloned().collect(),
        message: rejection.message.chars().take(CHARS_MAX).collect(),
        ..rejection.clone()
    }
}

/// A row of the log of proxies that is of this.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Row {
    /// A server is there.
    Server(Arc<str>),
    /// It waits for something.
    Wait(WaitId),
    /// What another server tells it.
    Told(WaitId, Arc<str>),
}

impl Row {
    fn key(&self) -> Arc<str> {
        match self {
            Self::Server(server) => key(&["replica", server]),
            Self::Wait(id) => key(&["wait", &id.server, &id.number.to_string()]),
            Self::Told(id, by) => key(&["told", &id.server, &id.number.to_string(), by]),
        }
    }

    fn read(key: &str) -> Option<Self> {
        let words: Vec<String> = serde_json::from_str(key).ok()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let id = |server: &str, number: &str| {
            Some(WaitId {
                server: server.into(),
                number: number.parse().ok()?,
            })
        };
        match words[..] {
            ["replica", server] => Some(Self::Server(server.into())),
            ["wait", server, number] => Some(Self::Wait(id(server, number)?)),
            ["told", server, number, by] => Some(Self::Told(id(server, number)?, by.into())),
            _ => None,
        }
    }
}
