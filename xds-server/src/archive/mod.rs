//! All that a server keeps, as one text: for backups, and to be looked at. Of a store it holds all kept revisions of
//! the mesh and the newest state of everything else, with their numbers.

mod sealed;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use policy::time::WallTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::sealed::{BackupKey, NotOpened, open, wrap};
use crate::{
    pki::OpenAuthority,
    store::{About, Change, Entry, KEPT, Log, Store, StoreError},
};

/// Its form: another one is of another version of this program.
const FORM: &str = "mumbai-mesh archive 1";

/// All that a server keeps.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    form: String,
    /// When it was made, in milliseconds since 1970.
    made_at: i64,
    logs: Vec<KeptLog>,
    /// The certificate authority's two files, with open keys; none in what `store export` writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authority: Option<OpenAuthority>,
    /// The API's tokens, as their file says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptLog {
    log: String,
    revisions: Vec<KeptRevision>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptRevision {
    revision: u64,
    about: About,
    /// Key and value.
    values: Vec<(String, String)>,
}

/// Why a text is no archive that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is something else.
    #[error("this is no archive of mumbai-mesh, or it is damaged: {0}")]
    Damaged(String),
    /// It was made by another version.
    #[error("made by another version of mumbai-mesh ({0}): use that one, or a newer one")]
    Version(String),
}

/// A revision that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Of what.
    pub log: Log,
    /// Its number.
    pub revision: u64,
    /// Why.
    pub why: String,
}

impl Archive {
    /// What a store holds. Kept revisions that cannot be read are left out, and told.
    ///
    /// # Errors
    /// When what is in force cannot be read.
    pub fn of(store: &dyn Store, made_at: WallTime) -> Result<(Self, Vec<Lost>), StoreError> {
        let mut lost = Vec::new();
        let mut logs = Vec::new();
        for log in Log::ALL {
            let newest = store.load(log)?.into_entry();
            let mut revisions = Vec::new();
            if let Some(newest) = newest {
                if log.is_of_wholes() {
                    earlier(store, log, newest.revision, &mut revisions, &mut lost);
                }
                revisions.push(kept(newest));
            }
            logs.push(KeptLog {
                log: log.name().into(),
                revisions,
            });
        }
        Ok((Self::made(logs, made_at), lost))
    }

    /// What could be read of a store, by log, the oldest revision first.
    pub fn of_remains(logs: Vec<(Log, Vec<Entry>)>, made_at: WallTime) -> Self {
        let log = |(log, entries): (Log, Vec<Entry>)| KeptLog {
            log: log.name().into(),
            revisions: entries.into_iter().map(kept).collect(),
        };
        Self::made(logs.into_iter().map(log).collect(), made_at)
    }

    fn made(logs: Vec<KeptLog>, made_at: WallTime) -> Self {
        Self {
            form: FORM.into(),
            made_at: made_at.unix_millis(),
            logs,
            authority: None,
            tokens: None,
        }
    }

    /// Together with what is not in the store.
    #[must_use]
    pub fn with(self, authority: OpenAuthority, tokens: Option<String>) -> Self {
        Self {
            authority: Some(authority),
            tokens,
            ..self
        }
    }

    /// As text. It holds private keys.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Texts and numbers alone: it cannot fail.
        Zeroizing::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// Of such a text.
    ///
    /// # Errors
    /// What it is instead.
    pub fn read(text: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Form {
            form: String,
        }
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let Form { form } = serde_json::from_slice(text).map_err(damaged)?;
        if form != FORM {
            return Err(Unreadable::Version(form));
        }
        let archive: Self = serde_json::from_slice(text).map_err(damaged)?;
        if let Some(log) = archive.logs.iter().find(|one| known(&one.log).is_none()) {
            return Err(Unreadable::Version(format!("with {}", log.log)));
        }
        Ok(archive)
    }

    /// When it was made.
    pub fn made_at(&self) -> WallTime {
        WallTime::from_unix_millis(self.made_at)
    }

    /// The newest revision of a log; 0 where there is none.
    pub fn revision(&self, log: Log) -> u64 {
        let kept = self.logs.iter().find(|one| known(&one.log) == Some(log));
        let newest = kept.and_then(|one| one.revisions.last());
        newest.map_or(0, |newest| newest.revision)
    }

    /// How many revisions of a log are in it.
    pub fn kept(&self, log: Log) -> usize {
        let kept = self.logs.iter().find(|one| known(&one.log) == Some(log));
        kept.map_or(0, |one| one.revisions.len())
    }

    /// The certificate authority, where it is in it.
    pub fn authority(&self) -> Option<&OpenAuthority> {
        self.authority.as_ref()
    }

    /// The API's tokens, where there were some.
    pub fn tokens(&self) -> Option<&str> {
        self.tokens.as_deref()
    }

    /// Puts it into a store that holds nothing: the same revisions have the same numbers.
    ///
    /// # Errors
    /// When that holds something, or a disk that refuses.
    pub fn put_into(&self, store: &dyn Store) -> Result<(), StoreError> {
        for one in &self.logs {
            let Some(log) = known(&one.log) else { continue };
            let entries = one.revisions.iter().map(KeptRevision::entry).collect();
            store.seed(log, entries)?;
        }
        Ok(())
    }
}

fn known(name: &str) -> Option<Log> {
    Log::ALL.into_iter().find(|log| log.name() == name)
}

/// The kept revisions before the newest one, the oldest first.
fn earlier(
    store: &dyn Store,
    log: Log,
    newest: u64,
    revisions: &mut Vec<KeptRevision>,
    lost: &mut Vec<Lost>,
) {
    for revision in newest.saturating_sub(KEPT - 1).max(1)..newest {
        match store.kept(log, revision) {
            Ok(state) => revisions.extend(state.and_then(|state| state.into_entry()).map(kept)),
            Err(error) => lost.push(Lost {
                log,
                revision,
                why: error.to_string(),
            }),
        }
    }
}

fn kept(entry: Entry) -> KeptRevision {
    let value = |Change { key, value }: Change| Some((key.to_string(), value?.to_string()));
    KeptRevision {
        revision: entry.revision,
        about: entry.about,
        values: entry.changes.into_iter().filter_map(value).collect(),
    }
}

impl KeptRevision {
    fn entry(&self) -> Entry {
        let change = |(key, value): &(String, String)| Change {
            key: Arc::from(key.as_str()),
            value: Some(Arc::from(value.as_str())),
        };
        Entry {
            revision: self.revision,
            about: self.about.clone(),
            changes: self.values.iter().map(change).collect(),
        }
    }
}
