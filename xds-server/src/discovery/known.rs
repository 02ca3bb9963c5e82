//! What a client knows, name by name.

use std::sync::Arc;

use xxhash_rust::xxh64::Xxh64;

use super::{
    Name,
    sorted::{Named, Sorted},
};
use crate::resource::Resource;

/// What a client has under a name that it wants.
#[derive(Debug, Clone, Copy)]
pub enum Has<'p> {
    /// A resource that it was sent on this stream.
    Sent(&'p Arc<Resource>),
    /// A resource of an earlier stream, in the version that it told.
    Kept(&'p str),
    /// Nothing: there is no such resource.
    Absent,
    /// Nothing: it was not sent yet.
    Nothing,
}

impl Has<'_> {
    /// Whether it has something.
    pub fn is_there(&self) -> bool {
        matches!(self, Self::Sent(_) | Self::Kept(_))
    }
}

/// What is known between the client and us of one name.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// That there is no such resource. In delta the client was told so.
    Absent(Name),
    /// A version that it kept from an earlier stream.
    Kept { name: Name, version: Box<str> },
    /// A resource of this stream.
    Sent(Arc<Resource>),
}

impl Named for Known {
    fn name(&self) -> &str {
        match self {
            Self::Absent(name) | Self::Kept { name, .. } => name,
            Self::Sent(resource) => &resource.name,
        }
    }
}

impl Known {
    pub(super) fn shown(&self) -> Has<'_> {
        match self {
            Self::Absent(_) => Has::Absent,
            Self::Kept { version, .. } => Has::Kept(version),
            Self::Sent(resource) => Has::Sent(resource),
        }
    }

    pub(super) fn has(&self, resource: &Arc<Resource>) -> bool {
        match self {
            Self::Absent(_) => false,
            Self::Kept { version, .. } => *version == resource.version,
            Self::Sent(sent) => Arc::ptr_eq(sent, resource) || sent.version == resource.version,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Absent(_))
    }

    /// Bytes of what the client said that it kept.
    pub(super) fn kept_bytes(&self) -> usize {
        match self {
            Self::Kept { name, version } => name.len() + version.len(),
            Self::Absent(_) | Self::Sent(_) => 0,
        }
    }

    pub(super) fn version(&self) -> &str {
        match self {
            Self::Absent(_) => "",
            Self::Kept { version, .. } => version,
            Self::Sent(resource) => &resource.version,
        }
    }
}

/// Derived from content: equal sets have equal versions, on every replica.
pub(super) fn version_of(known: &Sorted<Known>) -> String {
    let mut hash = Xxh64::new(0);
    for known in known.iter().filter(|known| known.is_there()) {
        hash.update(known.name().as_bytes());
        hash.update(&[0]);
        hash.update(known.version().as_bytes());
        hash.update(&[0]);
    }
    format!("{:016x}", hash.digest())
}
