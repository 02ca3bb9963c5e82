//! Takes secrets out of resources before anybody is shown them: private keys, passwords, session ticket
//! keys, generic secrets. Pure, and the only place that does it.
//!
//! What is secret is what Envoy's API marks so (`udpa.annotations.sensitive`), wherever it stands: in a
//! Secret, in a transport socket of a listener, in an extension's configuration. As in Envoy's own
//! `/config_dump`, texts and bytes there read `[redacted]`. What cannot be looked into is not shown.

#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::OnceLock};

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage,
    SerializeOptions, Value,
};
use serde_json::Value as Json;

use crate::resource::ResourceType;

const REDACTED: &str = "[redacted]";
/// Messages packed into messages; nothing of Envoy's comes near it.
const PACKED_DEPTH_MAX: usize = 16;

/// Knows which fields are secret.
#[derive(Debug)]
pub struct Redactor {
    descriptors: DescriptorPool,
    /// Full names of fields; found when first asked for.
    sensitive: OnceLock<HashSet<String>>,
}

impl Redactor {
    /// By these descriptors.
    pub fn new(descriptors: &DescriptorPool) -> Self {
        Self {
            descriptors: descriptors.clone(),
            sensitive: OnceLock::new(),
        }
    }

    /// An encoded resource without its secrets: the same bytes where there are none, and no bytes where
    /// it is no message of its type.
    pub fn body(&self, kind: ResourceType, body: &Bytes) -> Bytes {
        match self.message(kind, body) {
            Some((_, false)) => body.clone(),
            Some((message, true)) => message.encode_to_vec().into(),
            None => Bytes::new(),
        }
    }

    /// The same as protobuf JSON, fields named as Envoy's YAML names them; nothing where it is no
    /// message of its type.
    pub fn json(&self, kind: ResourceType, body: &[u8]) -> Option<Json> {
        let (message, _) = self.message(kind, body)?;
        let options = SerializeOptions::new().use_proto_field_name(true);
        message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .ok()
    }

    /// What an Envoy shows of a resource, in protobuf JSON, without the secrets that it left in; nothing
    /// where it is no message of its type.
    pub fn shown_by_envoy(&self, kind: ResourceType, shown: &Json) -> Option<Json> {
        let descriptor = self.descriptor(kind.url())?;
        let message = DynamicMessage::deserialize(descriptor, shown).ok()?;
        self.json(kind, &message.encode_to_vec())
    }

    /// A resource without its secrets, and whether there were any.
    fn message(&self, kind: ResourceType, body: &[u8]) -> Option<(DynamicMessage, bool)> {
        let mut message = DynamicMessage::decode(self.descriptor(kind.url())?, body).ok()?;
        let changed = self.walk(&mut message, false, 0);
        Some((message, changed))
    }

    fn descriptor(&self, type_url: &str) -> Option<MessageDescriptor> {
        let name = type_url.rsplit('/').next()?;
        self.descriptors.get_message_by_name(name)
    }

    fn is_sensitive(&self, field: &FieldDescriptor) -> bool {
        let sensitive = self
            .sensitive
            .get_or_init(|| sensitive_fields(&self.descriptors));
        sensitive.contains(field.full_name())
    }

    /// Whether something was taken out.
    fn walk(&self, message: &mut DynamicMessage, secret: bool, depth: usize) -> bool {
        if message.descriptor().full_name() == "google.protobuf.Any" {
            return self.any(message, secret, depth);
        }
        let mut changed = false;
        for (field, value) in message.fields_mut() {
            let secret = secret || self.is_sensitive(&field);
            changed |= self.value(value, secret, depth);
        }
        changed
    }

    fn value(&self, value: &mut Value, secret: bool, depth: usize) -> bool {
        match value {
            Value::Message(message) => self.walk(message, secret, depth),
            Value::List(values) => values.iter_mut().fold(false, |changed, value| {
                self.value(value, secret, depth) | changed
            }),
            Value::Map(values) => values.values_mut().fold(false, |changed, value| {
                self.value(value, secret, depth) | changed
            }),
            Value::String(text) if secret => {
                *text = REDACTED.into();
                true
            }
            Value::Bytes(bytes) if secret => {
                *bytes = REDACTED.into();
                true
            }
            // A number or a choice among secrets: no API has one, and it would say little.
            _ => false,
        }
    }

    fn any(&self, any: &mut DynamicMessage, secret: bool, depth: usize) -> bool {
        let (Some(type_url), Some(body)) = (text(any, "type_url"), bytes(any, "value")) else {
            return false;
        };
        let descriptor = self.descriptor(&type_url);
        let packed = descriptor
            .filter(|_| depth < PACKED_DEPTH_MAX)
            .and_then(|descriptor| DynamicMessage::decode(descriptor, body).ok());
        let Some(mut packed) = packed else {
            any.clear_field_by_name("value");
            return true;
        };
        let changed = self.walk(&mut packed, secret, depth + 1);
        if changed {
            let body = Value::Bytes(packed.encode_to_vec().into());
            any.set_field_by_name("value", body);
        }
        changed
    }
}

/// Long texts, such as a filter's code, are told by their length: nobody reads them.
pub fn shorten(shown: &mut Json) {
    const BYTES_MAX: usize = 64 * 1024;
    match shown {
        Json::String(text) if text.len() > BYTES_MAX => {
            *text = format!("[{} bytes]", text.len());
        }
        Json::Array(values) => values.iter_mut().for_each(shorten),
        Json::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

fn text(message: &DynamicMessage, field: &str) -> Option<String> {
    Some(message.get_field_by_name(field)?.as_str()?.to_string())
}

fn bytes(message: &DynamicMessage, field: &str) -> Option<Bytes> {
    message.get_field_by_name(field)?.as_bytes().cloned()
}

/// Fields that Envoy marks, by full name.
fn sensitive_fields(descriptors: &DescriptorPool) -> HashSet<String> {
    let mark = descriptors.get_extension_by_name("udpa.annotations.sensitive");
    let is_marked = |field: &FieldDescriptor| {
        mark.as_ref().is_some_and(|mark| {
            let options = field.options();
            options.get_extension(mark).as_bool() == Some(true)
        })
    };
    descriptors
        .all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter(is_marked)
        .map(|field| field.full_name().to_string())
        .collect()
}
