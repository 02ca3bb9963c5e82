//! What a client sends, read no further than needed: nearly every request repeats the names of the one
//! before it, so names are compared as bytes, and decoded only when they differ.
//!
//! Field numbers of `DiscoveryRequest` and `DeltaDiscoveryRequest` in
//! `envoy/service/discovery/v3/discovery.proto`.

use std::ops::Range;

use bytes::{Buf, Bytes};
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest, ResourceLocator},
    },
    google::rpc,
};
use prost::{
    DecodeError, Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{Interest, Name, Variant};
use crate::resource::ResourceType;

/// Longest rejection that is kept.
const ERROR_BYTES_MAX: usize = 4096;

/// A request that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no message of the API.
    #[error("the request is no discovery request: {0}")]
    Malformed(String),
    /// It wants too much.
    #[error(
        "more than {max} names of one type are wanted; subscribe to fewer, or to \"*\"",
        max = super::NAMES_MAX
    )]
    TooManyNames,
    /// It wants a name that is none.
    #[error(
        "a name of {bytes} bytes is wanted; a name has at most {max}",
        max = super::NAME_BYTES_MAX
    )]
    LongName {
        /// Its length.
        bytes: usize,
    },
    /// Its stream wants too much, all types together.
    #[error(
        "the names that this stream wants have more than {max} bytes together, over all types; \
         subscribe to fewer, or to \"*\"",
        max = super::STREAM_NAME_BYTES_MAX
    )]
    TooManyNameBytes,
}

impl From<DecodeError> for RequestError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// What a client asks of one type.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Equal for equal names, and only for those as far as anybody can make out.
    pub(super) fingerprint: u128,
    /// `version_info`: a stream's first request of a type may come with what the client has.
    version: Bytes,
    /// Whether there is nothing in it: in delta it then changes nothing.
    pub(super) is_empty: bool,
    words: Words,
}

#[derive(Debug, Clone)]
enum Words {
    Read(Interest),
    Raw(Variant, Bytes),
}

impl Asked {
    /// The fingerprint of a stream's first request of a type, in which the version counts too.
    pub(super) fn first_fingerprint(&self) -> u128 {
        let seed = self.fingerprint as u64;
        self.fingerprint ^ xxh3_128_with_seed(&self.version, seed)
    }

    /// What it says.
    ///
    /// # Errors
    /// When it is no message of the API.
    pub(super) fn interest(&self) -> Result<Interest, RequestError> {
        match &self.words {
            Words::Read(interest) => Ok(interest.clone()),
            Words::Raw(Variant::StateOfTheWorld, bytes) => {
                let request = DiscoveryRequest::decode(bytes.clone())?;
                let locators = request.resource_locators;
                Ok(Interest::Names {
                    names: names(request.resource_names, locators),
                    version: request.version_info,
                })
            }
            Words::Raw(Variant::Delta, bytes) => {
                let request = DeltaDiscoveryRequest::decode(bytes.clone())?;
                let known = request.initial_resource_versions.into_iter();
                Ok(Interest::Changes {
                    subscribe: names(
                        request.resource_names_subscribe,
                        request.resource_locators_subscribe,
                    ),
                    unsubscribe: names(
                        request.resource_names_unsubscribe,
                        request.resource_locators_unsubscribe,
                    ),
                    known: known
                        .map(|(name, version)| (name.into(), version.into()))
                        .collect(),
                })
            }
        }
    }
}

impl From<Interest> for Asked {
    fn from(interest: Interest) -> Self {
        let is_empty = match &interest {
            Interest::Names { .. } => false,
            Interest::Changes {
                subscribe,
                unsubscribe,
                known,
            } => subscribe.is_empty() && unsubscribe.is_empty() && known.is_empty(),
        };
        Self {
            fingerprint: xxh3_128_with_seed(format!("{interest:?}").as_bytes(), 0),
            version: Bytes::new(),
            is_empty,
            words: Words::Read(interest),
        }
    }
}

/// A locator without parameters that matter to us is a name.
fn names(names: Vec<String>, locators: Vec<ResourceLocator>) -> Vec<Name> {
    let located = locators.into_iter().map(|locator| locator.name);
    names.into_iter().chain(located).map(Name::from).collect()
}

/// What a client said about one type.
#[derive(Debug, Clone)]
pub struct Request {
    /// The type.
    pub kind: ResourceType,
    /// Nonce of the response it answers; empty when it answers none.
    pub nonce: Bytes,
    /// Why that response was rejected, if it was.
    pub error: Option<String>,
    /// What it wants.
    pub asked: Asked,
}

/// A request message whose fields were found and not yet looked into.
#[derive(Debug)]
pub struct Message {
    type_url: Bytes,
    node: Option<Bytes>,
    nonce: Bytes,
    error: Option<Bytes>,
    asked: Asked,
}

/// What a field of either message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Version,
    Node,
    TypeUrl,
    Nonce,
    Error,
    Names,
    Unknown,
}

impl Field {
    fn of(variant: Variant, tag: u32) -> Self {
        match (variant, tag) {
            (Variant::StateOfTheWorld, 1) => Self::Version,
            (Variant::StateOfTheWorld, 2) | (Variant::Delta, 1) => Self::Node,
            (Variant::StateOfTheWorld, 4) | (Variant::Delta, 2) => Self::TypeUrl,
            (Variant::StateOfTheWorld, 5) | (Variant::Delta, 6) => Self::Nonce,
            (Variant::StateOfTheWorld, 6) | (Variant::Delta, 7) => Self::Error,
            (Variant::StateOfTheWorld, 3 | 7) | (Variant::Delta, 3..=5 | 8 | 9) => Self::Names,
            _ => Self::Unknown,
        }
    }
}

impl Message {
    /// Finds the fields of a message. `seed` is this process's own secret, so that nobody can choose
    /// names whose fingerprints collide.
    ///
    /// # Errors
    /// When it is not protobuf.
    pub fn scan(variant: Variant, bytes: Bytes, seed: u64) -> Result<Self, RequestError> {
        let mut found = Self {
            type_url: Bytes::new(),
            node: None,
            nonce: Bytes::new(),
            error: None,
            asked: Asked {
                fingerprint: u128::from(seed),
                version: Bytes::new(),
                is_empty: true,
                words: Words::Raw(variant, Bytes::new()),
            },
        };
        let mut names = 0..0;
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            let begin = bytes.len() - rest.len();
            let (tag, wire) = decode_key(&mut rest)?;
            let field = Field::of(variant, tag);
            if field == Field::Unknown || wire != WireType::LengthDelimited {
                skip_field(wire, tag, &mut rest, DecodeContext::default())?;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut rest)?).unwrap_or(usize::MAX);
            if length > rest.len() {
                return Err(RequestError::Malformed("it ends too early".into()));
            }
            let at = bytes.len() - rest.len();
            rest.advance(length);
            let value = at..at + length;
            match field {
                Field::TypeUrl => found.type_url = bytes.slice(value),
                Field::Nonce => found.nonce = bytes.slice(value),
                Field::Node => found.node = Some(bytes.slice(value)),
                Field::Error => found.error = Some(bytes.slice(value)),
                Field::Names => {
                    found.asked.is_empty = false;
                    found
                        .asked
                        .add(&bytes, &mut names, begin..at + length, seed);
                }
                Field::Version => found.asked.version = bytes.slice(value),
                Field::Unknown => {}
            }
        }
        found.asked.finish(&bytes, &names, seed);
        found.asked.words = Words::Raw(variant, bytes);
        Ok(found)
    }

    /// The node, if the message carries it.
    ///
    /// # Errors
    /// When that is none.
    pub fn node(&self) -> Result<Option<Node>, RequestError> {
        let node = self.node.as_ref();
        Ok(node.map(|bytes| Node::decode(bytes.clone())).transpose()?)
    }

    /// The type's URL; empty when it names none.
    pub fn type_url(&self) -> &[u8] {
        &self.type_url
    }

    /// What it says about a type.
    ///
    /// # Errors
    /// When its error is none.
    pub fn into_request(self, kind: ResourceType) -> Result<Request, RequestError> {
        let error = self.error.map(rpc::Status::decode).transpose()?;
        Ok(Request {
            kind,
            nonce: self.nonce,
            // Envoy ends some with a line break.
            error: error.map(|status| bounded(status.message.trim_end().into())),
            asked: self.asked,
        })
    }
}

impl Asked {
    /// Takes a field of names in. Fields beside each other are hashed as one.
    fn add(&mut self, bytes: &[u8], run: &mut Range<usize>, field: Range<usize>, seed: u64) {
        if run.end != field.start {
            self.finish(bytes, run, seed);
            run.start = field.start;
        }
        run.end = field.end;
    }

    fn finish(&mut self, bytes: &[u8], run: &Range<usize>, seed: u64) {
        if run.is_empty() {
            return;
        }
        let hash = xxh3_128_with_seed(&bytes[run.clone()], seed);
        self.fingerprint = self.fingerprint.rotate_left(17).wrapping_add(hash);
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        let end = text.floor_char_boundary(ERROR_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
