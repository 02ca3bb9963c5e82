//! Under which keys a log is kept, and in which form.
//!
//! ```text
//! PREFIX/mesh/newest                           the number of the newest revision: the pointer
//! PREFIX/mesh/revisions/NUMBER                 who, when, why; what it says, or in how many chunks that is
//! PREFIX/mesh/contents/NUMBER-ID/CHUNK         a part of what it says
//! PREFIX/resources/snapshot                    all that held at a revision: which, and in how many chunks
//! PREFIX/resources/snapshots/NUMBER-ID/CHUNK   a part of it
//! ```

use serde::{Deserialize, Serialize};

use crate::store::{About, Change, Log};

/// Of one request 1.5 MiB may be used. JSON needs no escaping here: a chunk is bytes.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// What is shorter stands within its revision.
pub const INLINE_BYTES_MAX: usize = 8 * 1024;
/// Of one transaction 128 operations may be used; some are needed for other things.
pub const CHUNKS_MAX: usize = 120;

/// The keys of one log.
pub struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(prefix: &str, log: Log) -> Self {
        Self {
            prefix: format!("{prefix}{}/", log.name()),
        }
    }

    pub fn newest(&self) -> Vec<u8> {
        format!("{}newest", self.prefix).into_bytes()
    }

    /// Of a revision. They sort as numbers do.
    pub fn revision(&self, number: u64) -> Vec<u8> {
        format!("{}revisions/{number:020}", self.prefix).into_bytes()
    }

    /// The number in such a key.
    pub fn number(&self, key: &[u8]) -> Option<u64> {
        let key = std::str::from_utf8(key).ok()?;
        let number = key
            .strip_prefix(&*self.prefix)?
            .strip_prefix("revisions/")?;
        number.parse().ok()
    }

    /// Before every chunk of this revision and of those after it.
    pub fn contents_from(&self, number: u64) -> Vec<u8> {
        format!("{}contents/{number:020}", self.prefix).into_bytes()
    }

    pub fn content(&self, number: u64, id: &str, chunk: usize) -> Vec<u8> {
        format!("{}contents/{number:020}-{id}/{chunk:04}", self.prefix).into_bytes()
    }

    pub fn snapshot(&self) -> Vec<u8> {
        format!("{}snapshot", self.prefix).into_bytes()
    }

    /// Before every chunk of snapshots at this revision and later.
    pub fn snapshots_from(&self, number: u64) -> Vec<u8> {
        format!("{}snapshots/{number:020}", self.prefix).into_bytes()
    }

    pub fn snapshot_part(&self, number: u64, id: &str, chunk: usize) -> Vec<u8> {
        format!("{}snapshots/{number:020}-{id}/{chunk:04}", self.prefix).into_bytes()
    }
}

/// A revision as it is kept.
#[derive(Serialize, Deserialize)]
pub struct KeptRevision {
    /// Drawn by who wrote it: a writer whose answer was lost knows its own again.
    pub id: String,
    pub about: About,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<KeptChange>>,
    /// Where what it says does not stand here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub chunks: usize,
}

impl KeptRevision {
    /// Whether what is kept, if anything, is by the writer of this id.
    pub fn is_of(kept: Option<&[u8]>, id: &str) -> bool {
        let kept = kept.and_then(|kept| serde_json::from_slice::<Self>(kept).ok());
        kept.is_some_and(|kept| kept.id == id)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A change as it is kept.
#[derive(Serialize, Deserialize)]
pub struct KeptChange {
    pub key: String,
    pub value: Option<String>,
}

/// What held at a revision, as it is kept.
#[derive(Serialize, Deserialize)]
pub struct KeptSnapshot {
    pub id: String,
    pub revision: u64,
    pub about: About,
    pub chunks: usize,
    pub bytes: usize,
}

impl From<&Change> for KeptChange {
    fn from(change: &Change) -> Self {
        Self {
            key: change.key.to_string(),
            value: change.value.as_ref().map(ToString::to_string),
        }
    }
}

impl From<KeptChange> for Change {
    fn from(kept: KeptChange) -> Self {
        Self {
            key: kept.key.into(),
            value: kept.value.map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_numbers_and_chunks_stand_behind_their_revision_alone() {
        let keys = Keys::new("/mumbai-mesh/", Log::Mesh);
        assert_eq!(keys.newest(), b"/mumbai-mesh/mesh/newest");
        assert!(keys.revision(9) < keys.revision(10));
        assert_eq!(keys.number(&keys.revision(17)), Some(17));
        assert_eq!(keys.number(&keys.newest()), None);
        let chunk = keys.content(9, "id", 119);
        assert!(keys.contents_from(9) < chunk && chunk < keys.contents_from(10));
        let part = keys.snapshot_part(9, "id", 0);
        assert!(keys.snapshots_from(9) < part && part < keys.snapshots_from(10));
    }
}
