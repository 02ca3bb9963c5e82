//! Why a store does not do what it is asked.

use std::path::{Path, PathBuf};

/// Why a store does not do what it is asked. Nothing was written, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another revision than the one named is the newest: look again, and decide again.
    #[error("another change came first: revision {newest} is the newest")]
    Moved {
        /// The newest revision.
        newest: u64,
    },
    /// Another process has the file.
    #[error("{0} is in use by another server; give each server a --state-dir of its own")]
    InUse(PathBuf),
    /// No space left.
    #[error("{place} cannot grow: {why}; make space, then try again")]
    Full {
        /// The file, or the etcd.
        place: String,
        /// In its own words.
        why: String,
    },
    /// What is on disk is not what was written.
    #[error(
        "{place} is damaged: {why}; `mumbai-mesh store verify` says what of it can be read, `mumbai-mesh store export` \
         saves that, and `mumbai-mesh restore` brings a backup back into an empty --state-dir"
    )]
    Damaged {
        /// The file.
        place: String,
        /// In its own words.
        why: String,
    },
    /// There was one, and there is none.
    #[error(
        "{} is {}, and the folder was in use ({seen} is there): with an empty mesh Envoys would lose all that they have. \
         {} the file back, or bring a backup back into an empty --state-dir (`mumbai-mesh restore`). To begin anew on \
         purpose move the folder away (mv {} {}.old); with its ca/ and tokens.json in the new one, Envoys and tokens stay \
         known",
        file.display(), if *is_empty { "empty" } else { "gone" },
        if seen.ends_with(".moved") { "What it held moved into an etcd: start with the --store of that one. Else put" } else { "Put" },
        folder(file), folder(file)
    )]
    Lost {
        /// Where it was.
        file: PathBuf,
        /// A file without a byte, or no file.
        is_empty: bool,
        /// The file that tells that it was.
        seen: &'static str,
    },
    /// It cannot be read or written.
    #[error("{place} does not serve: {why}")]
    Broken {
        /// The file, or the etcd.
        place: String,
        /// In its own words.
        why: String,
    },
    /// The answer was lost: it may have been written, and shows as a revision then.
    #[error(
        "{place} was lost while it wrote: {why}; look whether the change is there, then try again"
    )]
    Uncertain {
        /// The etcd.
        place: String,
        /// In its own words.
        why: String,
    },
    /// More than it takes at once.
    #[error("{0}")]
    TooLarge(String),
}

fn folder(file: &Path) -> std::path::Display<'_> {
    file.parent().unwrap_or(file).display()
}
