//! The table as JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::{Field, Kind, MESH_FILE, Object, all_objects};

/// What `parse_duration` reads.
const DURATION: &str = "^(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?([0-9]+ns)?$";

/// JSON Schema (draft 2020-12) of a mesh file. It knows each field by itself; what several fields must be
/// together only the reader knows.
pub fn json_schema() -> Value {
    let definitions: Map<String, Value> = all_objects()
        .into_iter()
        .filter(|(known, _)| known.name != MESH_FILE.name)
        .map(|(object, _)| (key(object), object_schema(object)))
        .collect();
    let mut schema = object_schema(&MESH_FILE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Mesh file of mumbai-mesh");
    schema["$defs"] = Value::Object(definitions);
    schema
}

fn key(object: &Object) -> String {
    object.name.to_lowercase().replace(' ', "-")
}

pub(super) fn object_schema(object: &Object) -> Value {
    let properties: Map<String, Value> = object
        .fields
        .iter()
        .map(|field| (field.name.to_string(), field_schema(field)))
        .collect();
    let required = object.fields.iter().filter(|field| field.required);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    json!({
        "type": "object",
        "description": object.says,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn field_schema(field: &Field) -> Value {
    let mut schema = kind_schema(&field.kind);
    let default = field.default.map(default_value);
    schema["description"] = match &field.kind {
        Kind::Duration(..) => json!(format!("{} ({})", field.says, field.kind.words())),
        _ => json!(field.says),
    };
    if let Some(default) = default {
        schema["default"] = default;
    }
    schema
}

/// A default as the reader of YAML takes it.
pub(super) fn default_value(written: &str) -> Value {
    let list = |inner: &str| {
        let elements = inner.split(',').map(str::trim);
        let elements = elements.filter(|element| !element.is_empty());
        Value::Array(elements.map(default_value).collect())
    };
    let inner = written
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match (written, inner) {
        ("{}", _) => json!({}),
        (_, Some(inner)) => list(inner),
        // Words and durations are texts without quotes in YAML; numbers and truth values are JSON.
        _ => serde_json::from_str(written).unwrap_or_else(|_| json!(written)),
    }
}

fn kind_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Text(text) => json!({"type": "string", "pattern": text.pattern}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Switch => json!({"type": "boolean"}),
        Kind::OnOff => json!({"enum": ["on", "off", true, false]}),
        Kind::Whole(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Kind::OneOf(numbers) => json!({"enum": numbers}),
        Kind::Number(least, most) => {
            json!({"type": "number", "minimum": least, "maximum": most})
        }
        Kind::Duration(..) => json!({"type": "string", "pattern": DURATION}),
        Kind::Object(object) => json!({"$ref": format!("#/$defs/{}", key(object))}),
        Kind::List(element) => json!({"type": "array", "items": kind_schema(element)}),
        Kind::Map(key, value) => json!({
            "type": "object",
            "propertyNames": {"pattern": key.pattern},
            "additionalProperties": kind_schema(value),
        }),
        Kind::Either(kinds) => {
            json!({"anyOf": kinds.iter().map(kind_schema).collect::<Vec<_>>()})
        }
    }
}
