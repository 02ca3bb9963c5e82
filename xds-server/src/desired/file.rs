//! What the files of `--config` say.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

use super::{Desired, Refusal};
use crate::{
    mesh::{Document, MeshFile},
    text::hex,
};

/// What the files of `--config` say, as they stand.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContent {
    path: String,
    document: Arc<str>,
    mark: String,
    files: Vec<MeshFile>,
}

impl FileContent {
    /// Of the path that `--config` names.
    pub fn new(path: String, document: Arc<str>, files: Vec<MeshFile>) -> Self {
        let digest = Sha256::digest(document.as_bytes());
        Self {
            path,
            document,
            mark: hex(&digest),
            files,
        }
    }

    /// What they said when they could be read last, as a revision in force tells.
    pub fn last_good(path: String, desired: &Desired) -> Self {
        let document = desired.base().unwrap_or_else(|| desired.document());
        let mut content = Self::new(path, Arc::clone(document), Vec::new());
        if let Some(mark) = &desired.layers().file {
            content.mark.clone_from(mark);
        }
        content
    }

    /// What `--config` names.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// All files in one.
    pub fn document(&self) -> &Arc<str> {
        &self.document
    }

    /// Tells contents apart. Comments are none.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Why nobody else may write there.
    pub(super) fn owns(&self, path: &[&str]) -> Refusal {
        let path = path.join(".");
        Refusal::Owned {
            place: Document::new(&self.files, &[]).place(&path),
            path,
            file: self.path.clone(),
        }
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FileContent({:?}, {})", self.path, self.mark)
    }
}
