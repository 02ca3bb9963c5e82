//! Whose word about an endpoint counts for how long, and what all of them together say.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use policy::time::{MonoTime, Now, WallTime};

use crate::{compile::Asked, mesh::HealthCheck};

/// A word is good for so many reports, and for this time at least: one that is late proves nothing.
const REPORTS: u32 = 3;
const FRESH_MIN: Duration = Duration::from_secs(3);
/// Words about one endpoint. Three count; more come of Envoys that open streams anew.
const WORDS_MAX: usize = 8;

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One who asked it says so.
    Healthy,
    /// All who asked it say so.
    Unhealthy,
    /// Nobody has said anything lately.
    Unknown,
}

impl Verdict {
    /// `healthy`, `unhealthy`, `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// What one Envoy last said of an endpoint.
#[derive(Debug, Clone)]
struct Word {
    stream: u64,
    node: Arc<str>,
    /// None: it has not asked it yet, as far as one can tell.
    healthy: Option<bool>,
    /// When it spoke of it for the first time.
    first: MonoTime,
    until: MonoTime,
}

/// What is known of one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) verdict: Verdict,
    pub(super) since: WallTime,
    pub(super) last_heard: Option<WallTime>,
    words: Vec<Word>,
}

impl Known {
    pub(super) fn new(now: WallTime) -> Self {
        Self {
            verdict: Verdict::Unknown,
            since: now,
            last_heard: None,
            words: Vec::new(),
        }
    }

    /// `node.id` of those whose word counts.
    pub(super) fn by(&self) -> Vec<Arc<str>> {
        let decided = self.words.iter().filter(|word| word.healthy.is_some());
        let nodes: BTreeSet<&Arc<str>> = decided.map(|word| &word.node).collect();
        nodes.into_iter().map(Arc::clone).collect()
    }

    /// Takes a word. An Envoy calls an endpoint unhealthy until it has asked it, so that does not count
    /// before an answer had time to come.
    pub(super) fn hear(
        &mut self,
        stream: u64,
        node: &Arc<str>,
        healthy: bool,
        now: Now,
        asked: Times,
    ) {
        self.last_heard = Some(now.wall);
        let until = now.mono.saturating_add(asked.fresh);
        let place = self.words.iter().position(|word| word.stream == stream);
        let place = place.unwrap_or_else(|| {
            if self.words.len() >= WORDS_MAX {
                self.words.remove(0);
            }
            self.words.push(Word {
                stream,
                node: Arc::clone(node),
                healthy: None,
                first: now.mono,
                until,
            });
            self.words.len() - 1
        });
        let Some(word) = self.words.get_mut(place) else {
            return;
        };
        word.until = until;
        let has_answered = now.mono.saturating_since(word.first) > asked.answer;
        if healthy || word.healthy.is_some() || has_answered {
            word.healthy = Some(healthy);
        }
    }

    /// What all words that are still good say together; the verdict before, when it is another one.
    pub(super) fn judge(&mut self, now: Now) -> Option<Verdict> {
        self.words.retain(|word| word.until >= now.mono);
        let mut decided = self.words.iter().filter_map(|word| word.healthy);
        let verdict = match decided.next() {
            None => Verdict::Unknown,
            Some(first) if first || decided.any(|healthy| healthy) => Verdict::Healthy,
            Some(_) => Verdict::Unhealthy,
        };
        if verdict == self.verdict {
            return None;
        }
        self.since = now.wall;
        Some(mem::replace(&mut self.verdict, verdict))
    }
}

/// How long words about a service are good, and how long its endpoints may take to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    fresh: Duration,
    answer: Duration,
}

impl Times {
    pub(super) fn of(check: &HealthCheck) -> Self {
        Self {
            fresh: (Asked::of(check).report * REPORTS).max(FRESH_MIN),
            answer: check.timeout,
        }
    }
}
