//! What outlives the process: numbered revisions of the mesh, of raw resources, of instances and of proxies, in one file here
//! ([`Embedded`]) or in an etcd that several servers share ([`Etcd`]).
//!
//! A log is a row of revisions without gaps. Who appends says after which revision; when another came first,
//! nothing is written. Who follows is told by a [`Feed`] that there is more, and gets it in order. Nobody
//! applies what they wrote: they apply what comes back, so one server and several are the same path.

mod again;
mod embedded;
mod error;
mod etcd;
mod feed;
mod metrics;
mod quiet;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use policy::time::WallTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use again::keep_trying;
pub use embedded::{Embedded, Integrity, Remains};
pub use error::StoreError;
pub use etcd::{Access, Address, AddressError, Etcd, Member, TlsFiles};
pub use feed::{Feed, Since};
pub use metrics::StoreMetrics;

/// How many revisions of each log are kept to be looked at: with their contents where each is a whole.
pub const KEPT: u64 = 100;

/// What revisions are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// The mesh. Each revision says everything: the whole of it under [`MESH_KEY`], and how it came about beside it.
    Mesh,
    /// Raw resources. Each revision says what it changes.
    Resources,
    /// Instances that registered. Each revision says what it changes.
    Instances,
    /// Proxies that each server saw. Each revision says what it changes.
    Proxies,
}

/// Where [`Log::Mesh`] has the mesh itself.
pub const MESH_KEY: &str = "mesh";

impl Log {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mesh, Self::Resources, Self::Instances, Self::Proxies];

    /// Its name, where it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Resources => "resources",
            Self::Instances => "instances",
            Self::Proxies => "proxies",
        }
    }

    /// Whether a revision says everything, and nothing of the one before it remains.
    pub fn is_of_wholes(self) -> bool {
        self == Self::Mesh
    }
}

/// Where a revision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Files: `--config`, `--resources`, or what an earlier version kept.
    File,
    /// A call of the API.
    Api,
}

/// Who, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// When it was accepted, by the clock of the server that did.
    pub at: WallTime,
    /// Where it came from.
    pub origin: Origin,
    /// Who made it, where that is known.
    pub author: Option<String>,
    /// Why, in a person's words.
    pub message: Option<String>,
}

impl About {
    /// Of files, who are their own author.
    pub fn of_files(at: WallTime, message: impl Into<String>) -> Self {
        Self {
            at,
            origin: Origin::File,
            author: Some("file".into()),
            message: Some(message.into()),
        }
    }

    /// Of a call that nobody in particular made.
    pub fn of_api(at: WallTime) -> Self {
        Self {
            at,
            origin: Origin::Api,
            author: None,
            message: None,
        }
    }

    /// By whom.
    #[must_use]
    pub fn by(mut self, author: Option<String>) -> Self {
        self.author = author;
        self
    }

    /// Why.
    #[must_use]
    pub fn because(mut self, message: Option<String>) -> Self {
        self.message = message;
        self
    }
}

/// A key and what becomes of it: another value, or none.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is of.
    pub key: Arc<str>,
    /// None: it goes.
    pub value: Option<Arc<str>>,
}

impl Change {
    /// About how many bytes it holds.
    fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// A key of several words, whatever they hold.
pub fn key(words: &[&str]) -> Arc<str> {
    serde_json::Value::from(words).to_string().into()
}

impl fmt::Debug for Change {
    /// Without the value, which may hold private keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.value.as_ref().map(|value| value.len());
        write!(formatter, "Change({:?}, {bytes:?} bytes)", self.key)
    }
}

/// A revision that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who, when and why.
    pub about: About,
    /// What it changes. Each key once.
    pub changes: Vec<Change>,
}

/// A revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts up from 1, without gaps, over restarts and servers.
    pub revision: u64,
    /// Who, when and why.
    pub about: About,
    /// What it changed.
    pub changes: Vec<Change>,
}

impl Entry {
    /// About how many bytes it holds.
    fn size(&self) -> usize {
        self.changes.iter().map(Change::size).sum()
    }
}

/// Everything that holds at a revision.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    /// 0 before the first.
    pub revision: u64,
    /// Of that revision.
    pub about: Option<About>,
    /// By key.
    pub values: BTreeMap<Arc<str>, Arc<str>>,
}

impl fmt::Debug for State {
    /// Without the values, which may hold private keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (revision, values) = (self.revision, self.values.len());
        write!(formatter, "State(revision {revision}, {values} values)")
    }
}

impl State {
    /// As a revision that says everything; none before the first.
    pub fn into_entry(self) -> Option<Entry> {
        let change = |(key, value)| Change {
            key,
            value: Some(value),
        };
        Some(Entry {
            revision: self.revision,
            about: self.about?,
            changes: self.values.into_iter().map(change).collect(),
        })
    }

    /// The state after a revision of this log.
    pub fn apply(&mut self, log: Log, entry: &Entry) {
        if log.is_of_wholes() {
            self.values.clear();
        }
        for Change { key, value } in &entry.changes {
            match value {
                Some(value) => _ = self.values.insert(Arc::clone(key), Arc::clone(value)),
                None => _ = self.values.remove(key),
            }
        }
        self.revision = entry.revision;
        self.about = Some(entry.about.clone());
    }
}

/// A secret, as its owner sealed it.
pub struct Secret {
    /// Counts up from 1.
    pub version: u64,
    /// Its bytes.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Where revisions are kept. All but [`Store::feed`] wait for a disk or a network: call them where they hold
/// up nobody who serves.
pub trait Store: Send + Sync + 'static {
    /// Appends a revision, unless another one than `after` is the newest. When it returns, the revision
    /// outlives the end of any process and machine (of etcd: of less than half of its members), and the feed
    /// has it.
    ///
    /// # Errors
    /// [`StoreError::Moved`] when another came first. After any error but [`StoreError::Uncertain`] nothing
    /// was written.
    fn append(&self, log: Log, after: u64, draft: Draft) -> Result<u64, StoreError>;

    /// Puts revisions into a log that holds nothing, with the numbers that they have, the oldest first: of a log of
    /// wholes several, of another one a single one that says everything.
    ///
    /// # Errors
    /// [`StoreError::Moved`] when it holds something.
    fn seed(&self, log: Log, entries: Vec<Entry>) -> Result<(), StoreError>;

    /// All that holds at the newest revision.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, log: Log) -> Result<State, StoreError>;

    /// A kept revision of a log whose revisions are wholes; none when it is not kept.
    ///
    /// # Errors
    /// When it cannot be read.
    fn kept(&self, log: Log, revision: u64) -> Result<Option<State>, StoreError>;

    /// Who made kept revisions before `before`, when and why: the newest first, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    fn history(&self, log: Log, before: u64, limit: usize)
    -> Result<Vec<(u64, About)>, StoreError>;

    /// When it returns, the feed knows of all that was appended before the call, whoever did: what nobody writes down,
    /// such as that there is nothing to be changed, is said of no older state.
    ///
    /// # Errors
    /// When the store does not answer.
    fn catch_up(&self, log: Log) -> Result<(), StoreError>;

    /// Tells of revisions, whoever appended them.
    fn feed(&self, log: Log) -> &Feed;

    /// Whether other servers may use it too.
    fn is_shared(&self) -> bool;

    /// Why it does not serve at the moment, as far as that is known. Waits for nothing.
    fn problem(&self) -> Option<String>;

    /// Tries again what failed last, as far as nobody else does: a store that serves again has no problem then.
    fn try_again(&self) {}

    /// A secret and its version; none where there is none of this name. It is in no log and no feed.
    ///
    /// # Errors
    /// When it cannot be read.
    fn secret(&self, name: &str) -> Result<Option<Secret>, StoreError>;

    /// Keeps a secret as the version that follows `after` (0: there is none yet), and gives that.
    ///
    /// # Errors
    /// [`StoreError::Moved`] when its version is another.
    fn keep_secret(&self, name: &str, after: u64, bytes: &[u8]) -> Result<u64, StoreError>;

    /// Whether `holder` has the lease of this name for `span` from the moment of the call: it had it, or
    /// nobody has. Who wants to go on having it asks again before that ends.
    ///
    /// # Errors
    /// When the store does not answer: then nobody may believe to have it.
    fn hold(&self, name: &str, holder: &str, span: Duration) -> Result<bool, StoreError>;

    /// Lets go of a lease, if `holder` has it.
    ///
    /// # Errors
    /// When the store does not answer: it ends by itself.
    fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;
}

/// Moves what one store holds into another one that holds nothing yet, kept revisions with their numbers. Whoever is
/// ended meanwhile does it again: a log that is there already as it is here has moved. False when the other one holds
/// something else.
///
/// # Errors
/// Of either.
pub fn move_into(from: &dyn Store, to: &dyn Store) -> Result<bool, StoreError> {
    let mut missing = Vec::new();
    for log in Log::ALL {
        if to.feed(log).revision() == 0 {
            missing.push(log);
        } else if to.load(log)? != from.load(log)? {
            return Ok(false);
        }
    }
    if missing.is_empty() {
        return Ok(false);
    }
    for log in missing {
        to.seed(log, all_kept(from, log)?)?;
    }
    Ok(true)
}

/// The kept revisions of a log of wholes, of another one what holds at the newest. The oldest first.
fn all_kept(store: &dyn Store, log: Log) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let newest = store.load(log)?;
    if log.is_of_wholes() {
        for revision in newest.revision.saturating_sub(KEPT - 1).max(1)..newest.revision {
            let state = store.kept(log, revision)?;
            entries.extend(state.and_then(State::into_entry));
        }
    }
    entries.extend(newest.into_entry());
    Ok(entries)
}

/// [`About`] as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptAbout {
    at: i64,
    origin: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Serialize for About {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = KeptAbout {
            at: self.at.unix_millis(),
            origin: self.origin,
            author: self.author.clone(),
            message: self.message.clone(),
        };
        kept.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for About {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kept = KeptAbout::deserialize(deserializer)?;
        Ok(Self {
            at: WallTime::from_unix_millis(kept.at),
            origin: kept.origin,
            author: kept.author,
            message: kept.message,
        })
    }
}
