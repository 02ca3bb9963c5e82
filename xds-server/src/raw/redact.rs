//! Private keys do not leave by the API: what Envoy's own descriptors mark as sensitive is replaced, at
//! any depth and within any `@type`.

use prost_reflect::{
    DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};
use serde_json::Value;

const REDACTED: &str = "[redacted]";
const SENSITIVE: &str = "udpa.annotations.sensitive";

/// Replaces what is sensitive in the JSON of a message.
pub fn redact(pool: &DescriptorPool, message: &MessageDescriptor, body: &mut Value) {
    match pool.get_extension_by_name(SENSITIVE) {
        Some(sensitive) => in_message(pool, &sensitive, message, body),
        // Without the mark nothing can be told apart.
        None => hide(body),
    }
}

fn in_message(
    pool: &DescriptorPool,
    sensitive: &ExtensionDescriptor,
    message: &MessageDescriptor,
    body: &mut Value,
) {
    let Value::Object(members) = body else {
        return;
    };
    let any = members.get("@type").and_then(Value::as_str).map(|url| {
        let name = url.rsplit('/').next().unwrap_or_default();
        pool.get_message_by_name(name)
    });
    let message = match any {
        None => message.clone(),
        Some(Some(message)) => message,
        Some(None) => return hide(body),
    };
    for (key, value) in members {
        let field = message
            .get_field_by_json_name(key)
            .or_else(|| message.get_field_by_name(key));
        match field {
            Some(field) if is_marked(sensitive, &field) => hide(value),
            Some(field) => in_field(pool, sensitive, &field, value),
            // `value` of a well-known type in an Any: a scalar or a struct, marked nowhere.
            None => {}
        }
    }
}

fn in_field(
    pool: &DescriptorPool,
    sensitive: &ExtensionDescriptor,
    field: &FieldDescriptor,
    value: &mut Value,
) {
    let Kind::Message(message) = field.kind() else {
        return;
    };
    match value {
        Value::Array(elements) => {
            for element in elements {
                in_message(pool, sensitive, &message, element);
            }
        }
        Value::Object(entries) if field.is_map() => {
            if let Kind::Message(message) = message.map_entry_value_field().kind() {
                for entry in entries.values_mut() {
                    in_message(pool, sensitive, &message, entry);
                }
            }
        }
        value => in_message(pool, sensitive, &message, value),
    }
}

fn is_marked(sensitive: &ExtensionDescriptor, field: &FieldDescriptor) -> bool {
    let options = field.options();
    options.has_extension(sensitive) && options.get_extension(sensitive).as_bool() == Some(true)
}

/// The shape stays, as in Envoy's own dumps; no leaf does.
fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => members
            .iter_mut()
            .filter(|(key, _)| *key != "@type")
            .for_each(|(_, value)| hide(value)),
        Value::Array(elements) => elements.iter_mut().for_each(hide),
        Value::Null => {}
        leaf => *leaf = REDACTED.into(),
    }
}
