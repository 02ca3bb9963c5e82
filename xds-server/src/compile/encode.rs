//! Protobuf JSON -> bytes, checked against Envoy's own descriptors.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use xxhash_rust::xxh64::xxh64;

use super::Draft;
use crate::resource::{Resource, ResourceType};

/// Descriptors of Envoy's API, put there by the build script.
static ENVOY_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));

/// A draft that is no message of its type.
#[derive(Debug, thiserror::Error)]
#[error("{kind:?} {name:?} is not what Envoy's API describes: {problem}")]
pub struct EncodeError {
    kind: ResourceType,
    name: String,
    problem: String,
}

/// Encodes drafts, each content once: what did not change keeps its bytes.
#[derive(Debug)]
pub struct Encoder {
    descriptors: DescriptorPool,
    /// The newest encodings of each name. Several, since views may differ in one name (listeners of
    /// sidecars on different ports); bounded per name, so that memory follows the mesh and not time.
    known: Mutex<Known>,
}

type Known = HashMap<(ResourceType, String), Vec<Arc<Resource>>>;

const KNOWN_PER_NAME_MAX: usize = 64;

impl Encoder {
    /// Loads the descriptors (about 0.1 s, once per process).
    pub fn new() -> Result<Self, prost_reflect::DescriptorError> {
        Ok(Self {
            descriptors: DescriptorPool::decode(ENVOY_DESCRIPTORS)?,
            known: Mutex::default(),
        })
    }

    /// The resource that a draft says, shared with everyone who was given the same.
    ///
    /// # Errors
    /// When the draft's body is no message of its type: an error of the compiler, which its tests
    /// are there to find.
    pub fn encode(&self, draft: Draft) -> Result<Arc<Resource>, EncodeError> {
        let version = format!("{:016x}", xxh64(draft.body.to_string().as_bytes(), 0));
        let key = (draft.kind, draft.name);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resources) = known.get(&key)
            && let Some(same) = resources.iter().find(|known| *known.version == *version)
        {
            return Ok(Arc::clone(same));
        }
        let (kind, name) = key;
        let body = match self.bytes(kind, &draft.body) {
            Ok(body) => body,
            Err(problem) => {
                return Err(EncodeError {
                    kind,
                    name,
                    problem,
                });
            }
        };
        let resource = Arc::new(Resource::new(kind, &name, &version, &body));
        let newest = known.entry((kind, name)).or_default();
        if newest.len() == KNOWN_PER_NAME_MAX {
            newest.remove(0);
        }
        newest.push(Arc::clone(&resource));
        Ok(resource)
    }

    /// Forgets encodings that nobody holds any more.
    pub fn forget_unused(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, resources| {
            resources.retain(|resource| Arc::strong_count(resource) > 1);
            !resources.is_empty()
        });
    }

    fn bytes(&self, kind: ResourceType, body: &serde_json::Value) -> Result<Vec<u8>, String> {
        let message = kind.url().rsplit('/').next().unwrap_or_default();
        let descriptor = self
            .descriptors
            .get_message_by_name(message)
            .ok_or_else(|| format!("no message {message} in Envoy's descriptors"))?;
        let message =
            DynamicMessage::deserialize(descriptor, body).map_err(|error| error.to_string())?;
        Ok(message.encode_to_vec())
    }
}
