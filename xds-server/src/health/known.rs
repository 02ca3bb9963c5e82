//! Whose word about an endpoint counts for how long, and what all of them together say.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use policy::time::{MonoTime, Now, WallTime};

use super::Question;
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
    /// Nobody has said lately how it is.
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
    question: Question,
    /// Whether the answer was good. None: it has not asked it yet, as far as one can tell.
    is_good: Option<bool>,
    /// It cannot speak any more: what others find there meanwhile outranks it.
    is_last: bool,
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
    /// Nobody who knows of its health speaks of it, as far as is noted.
    pub(super) is_silent: bool,
    /// When that would be so.
    spoken_of_until: MonoTime,
    words: Vec<Word>,
}

impl Known {
    /// Of one that may be spoken of from now on.
    pub(super) fn new(now: Now) -> Self {
        Self {
            verdict: Verdict::Unknown,
            since: now.wall,
            last_heard: None,
            is_silent: false,
            spoken_of_until: now.mono.saturating_add(FRESH_MIN),
            words: Vec::new(),
        }
    }

    /// `node.id` of those whose word counts: a last word that others outrank is none of them.
    pub(super) fn by(&self) -> Vec<Arc<str>> {
        let is_dead = self.verdict == Verdict::Unhealthy;
        let counts = |word: &&Word| match word.is_good {
            Some(is_good) => !(is_dead && is_good && word.is_last),
            None => false,
        };
        let decided = self.words.iter().filter(counts);
        let nodes: BTreeSet<&Arc<str>> = decided.map(|word| &word.node).collect();
        nodes.into_iter().map(Arc::clone).collect()
    }

    /// Takes a word. An Envoy calls an endpoint unhealthy until it has asked it, so that does not count
    /// before an answer had time to come.
    pub(super) fn hear(&mut self, by: Speaker<'_>, is_good: bool, now: Now, asked: Times) {
        let Speaker {
            stream,
            node,
            question,
        } = by;
        self.last_heard = Some(now.wall);
        let until = now.mono.saturating_add(asked.fresh);
        if question == Question::Health {
            self.spoken_of_until = until;
        }
        let is_his = |word: &Word| (word.stream, word.question) == (stream, question);
        let place = self.words.iter().position(is_his);
        let place = place.unwrap_or_else(|| {
            if self.words.len() >= WORDS_MAX {
                self.words.remove(0);
            }
            self.words.push(Word {
                stream,
                node: Arc::clone(node),
                question,
                is_good: None,
                is_last: false,
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
        if is_good || word.is_good.is_some() || has_answered {
            word.is_good = Some(is_good);
        }
    }

    /// What all words that are still good say together; the verdict before, when it is another one.
    pub(super) fn judge(&mut self, now: Now) -> Option<Verdict> {
        self.words.retain(|word| word.until >= now.mono);
        let those = |question, is_good| {
            let words = self.words.iter();
            words.filter(move |word| word.question == question && word.is_good == Some(is_good))
        };
        let said = |question, is_good| those(question, is_good).next().is_some();
        // Who knows of its health is believed first. That it can be reached says nothing of it.
        let nobody_is_there = || said(Question::Reach, false) && !said(Question::Reach, true);
        let verdict = if those(Question::Health, true).any(|word| !word.is_last) {
            Verdict::Healthy
        } else if said(Question::Health, false) || nobody_is_there() {
            Verdict::Unhealthy
        } else if said(Question::Health, true) {
            Verdict::Healthy
        } else {
            Verdict::Unknown
        };
        if verdict == self.verdict {
            return None;
        }
        self.since = now.wall;
        Some(mem::replace(&mut self.verdict, verdict))
    }

    /// A stream ended. Its word stays good for its time. True where nobody is left who speaks of its health, so that
    /// others are to be asked at once.
    pub(super) fn leave(&mut self, stream: u64, now: Now) -> bool {
        let (mut spoke, mut others) = (false, false);
        let of_health = |word: &&mut Word| word.question == Question::Health;
        for word in self.words.iter_mut().filter(of_health) {
            let is_his = word.stream == stream;
            spoke |= is_his;
            word.is_last |= is_his;
            others |= !word.is_last;
        }
        if !spoke || others {
            return false;
        }
        self.spoken_of_until = self.spoken_of_until.min(now.mono);
        !mem::replace(&mut self.is_silent, true)
    }

    /// Notes whether nobody speaks of its health any more; true when that is something new.
    pub(super) fn listen(&mut self, now: Now) -> bool {
        let is_silent = self.spoken_of_until < now.mono;
        mem::replace(&mut self.is_silent, is_silent) != is_silent
    }
}

/// Who says something, and what it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speaker<'s> {
    pub(super) stream: u64,
    pub(super) node: &'s Arc<str>,
    pub(super) question: Question,
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
