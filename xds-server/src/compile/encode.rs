//! Protobuf JSON -> bytes, checked against Envoy's own descriptors.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envoy_types::pb::envoy::service::health::v3::HealthCheckSpecifier;
use prost::{Message, Name as _};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::de::DeserializeSeed;
use serde_json::Value;
use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::{Draft, Misfit, names, shapes::Shapes, twice, write::write};
use crate::resource::{Resource, ResourceType};

/// Descriptors of Envoy's API, put there by the build script.
pub static ENVOY_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));

/// A draft that is no message of its type.
#[derive(Debug, thiserror::Error)]
#[error("{kind:?} {name:?} is not what Envoy's API describes: {misfit}")]
pub struct EncodeError {
    kind: ResourceType,
    name: String,
    misfit: Misfit,
}

/// Encodes drafts, each content once: what did not change keeps its bytes.
#[derive(Debug)]
pub struct Encoder {
    descriptors: DescriptorPool,
    shapes: Shapes,
    /// The newest encodings of each name. Several, since views may differ in one name (listeners of
    /// sidecars on different ports); bounded per name, so that memory follows the mesh and not time.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    resources: HashMap<(ResourceType, String), Vec<Arc<Resource>>>,
    /// How many came since the unused ones were last forgotten.
    new: usize,
}

const KNOWN_PER_NAME_MAX: usize = 64;

impl Encoder {
    /// Loads the descriptors (about 0.1 s, once per process).
    pub fn new() -> Result<Self, prost_reflect::DescriptorError> {
        let descriptors = DescriptorPool::decode(ENVOY_DESCRIPTORS)?;
        Ok(Self {
            shapes: Shapes::new(descriptors.clone()),
            descriptors,
            known: Mutex::default(),
        })
    }

    /// The resource that a draft says, shared with everyone who was given the same.
    ///
    /// # Errors
    /// When the draft's body is no message of its type: an error of the compiler, which its tests
    /// are there to find.
    pub fn encode(&self, draft: Draft) -> Result<Arc<Resource>, EncodeError> {
        let version = version_of(&draft.body);
        let key = (draft.kind, draft.name);
        if let Some(resources) = self.known().resources.get(&key)
            && let Some(same) = resources.iter().find(|known| *known.version == *version)
        {
            return Ok(Arc::clone(same));
        }
        let (kind, name) = key;
        let resource = match self.drafted(kind, &name, &version, &draft.body) {
            Ok(resource) => Arc::new(resource),
            Err(misfit) => return Err(EncodeError { kind, name, misfit }),
        };
        let mut known = self.known();
        known.new += 1;
        let newest = known.resources.entry((kind, name)).or_default();
        if newest.len() == KNOWN_PER_NAME_MAX {
            newest.remove(0);
        }
        newest.push(Arc::clone(&resource));
        Ok(resource)
    }

    /// As [`resource`](Self::resource), at a fraction of its cost where a body is written as ours are.
    fn drafted(
        &self,
        kind: ResourceType,
        name: &str,
        version: &str,
        body: &Value,
    ) -> Result<Resource, Misfit> {
        let Ok(written) = write(&self.shapes, kind.url(), body) else {
            return self.resource(kind, name, version, body);
        };
        let clusters = match kind.is_named_by_others() {
            true => Box::default(),
            false => written.clusters,
        };
        Ok(Resource::new(kind, name, version, &written.bytes).naming(clusters))
    }

    /// Forgets encodings that nobody holds any more, once they may be a quarter of all: to look for them
    /// costs as much as there are.
    pub fn forget_unused(&self) {
        let mut known = self.known();
        if known.new * 4 < known.resources.len() {
            return;
        }
        known.new = 0;
        known.resources.retain(|_, resources| {
            resources.retain(|resource| Arc::strong_count(resource) > 1);
            !resources.is_empty()
        });
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Envoy's descriptors, by which `@type` is resolved.
    pub fn descriptors(&self) -> &DescriptorPool {
        &self.descriptors
    }

    /// The resource that a body says. An `@type` within it must come first in its object:
    /// errors behind one that does not lose their place.
    ///
    /// # Errors
    /// Where the body is not what the type's descriptor says.
    pub fn resource(
        &self,
        kind: ResourceType,
        name: &str,
        version: &str,
        body: &Value,
    ) -> Result<Resource, Misfit> {
        let descriptor = self
            .message(kind)
            .ok_or_else(|| Misfit::whole(format!("no {kind:?} in Envoy's descriptors")))?;
        let Ok(message) = descriptor.clone().deserialize(body) else {
            return Err(misfit(&descriptor, body));
        };
        let clusters = names::clusters_of(kind, &message, &self.descriptors);
        let bytes = DynamicMessage::encode_to_vec(&message);
        Ok(Resource::new(kind, name, version, &bytes).naming(clusters))
    }

    /// What an Envoy is asked to check, as [`super::specifier`] says it.
    ///
    /// # Errors
    /// When Envoy's API does not describe it: an error of the compiler.
    pub fn specifier(&self, body: &Value) -> Result<HealthCheckSpecifier, Misfit> {
        let name = HealthCheckSpecifier::full_name();
        let whole = |text: &dyn ToString| Misfit::whole(text.to_string());
        let descriptor = self.descriptors.get_message_by_name(&name);
        let descriptor =
            descriptor.ok_or_else(|| whole(&format!("no {name} in Envoy's descriptors")))?;
        let message = descriptor
            .deserialize(body)
            .map_err(|error| whole(&error))?;
        HealthCheckSpecifier::decode(&*message.encode_to_vec()).map_err(|error| whole(&error))
    }

    /// What a body gives twice, which its reader would not say.
    pub fn given_twice(&self, kind: ResourceType, body: &Value) -> Option<Misfit> {
        twice::find(&self.message(kind)?, body)
    }

    /// The first member of a body that is no field, if that is what is wrong with it first.
    pub fn unknown_field(&self, kind: ResourceType, body: &Value) -> Option<Misfit> {
        let misfit = self.resource(kind, "", "", body).err()?;
        misfit.key.is_some().then_some(misfit)
    }

    /// The descriptor of a type.
    pub fn message(&self, kind: ResourceType) -> Option<MessageDescriptor> {
        let name = kind.url().rsplit('/').next().unwrap_or_default();
        self.descriptors.get_message_by_name(name)
    }
}

/// Where a body is not what its descriptor says. Reads it once more: to know the place at every step would
/// cost all those that are right.
fn misfit(descriptor: &MessageDescriptor, body: &Value) -> Misfit {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(body, &mut track);
    match descriptor.clone().deserialize(deserializer) {
        Ok(_) => Misfit::whole("it was refused, and not when it was read again".into()),
        Err(error) => Misfit::of(descriptor, body, &track.path(), &error),
    }
}

/// A resource's version: of its JSON, so that equal content has it everywhere.
pub fn version(json: &str) -> String {
    format!("{:016x}", xxh64(json.as_bytes(), 0))
}

/// The version of a body of ours. Not by its JSON, which would write the largest text of all, a filter's
/// configuration, with each of its quotes escaped.
fn version_of(body: &Value) -> String {
    let mut hash = Xxh64::new(0);
    put(&mut hash, body);
    format!("{:016x}", hash.digest())
}

/// Puts a value in so that no other one is put in alike.
fn put(hash: &mut Xxh64, value: &Value) {
    let put_text = |hash: &mut Xxh64, text: &str| {
        hash.update(&text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(is) => hash.update(if *is { b"t" } else { b"f" }),
        Value::Number(number) => {
            hash.update(b"#");
            put_text(hash, &number.to_string());
        }
        Value::String(text) => {
            hash.update(b"\"");
            put_text(hash, text);
        }
        Value::Array(values) => {
            hash.update(b"[");
            hash.update(&values.len().to_le_bytes());
            values.iter().for_each(|value| put(hash, value));
        }
        Value::Object(fields) => {
            hash.update(b"{");
            hash.update(&fields.len().to_le_bytes());
            for (name, value) in fields {
                put_text(hash, name);
                put(hash, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_contents_apart_and_is_the_same_everywhere() {
        let bodies = [
            tree!({"a": "b", "c": Value::Null}),
            tree!({"a": "b", "c": "n"}),
            tree!({"a": "bc"}),
            tree!({"a": ["b", "c"]}),
            tree!({"a": [["b"], "c"]}),
            tree!({"a": {"b": "c"}}),
            tree!({"a": 1}),
            tree!({"a": "1"}),
            tree!({"a": 1.5}),
            tree!({"a": true}),
        ];
        let mut versions: Vec<String> = bodies.iter().map(version_of).collect();
        // Replicas of this release and the next must agree, or every Envoy is sent everything.
        assert_eq!(versions[0], "63283c0b0ff82a93");
        versions.sort();
        versions.dedup();
        assert_eq!(versions.len(), bodies.len());
    }
}
