//! What an instance says when it registers, as JSON Schema: the fields of the file's endpoints, and its own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::json;

use super::{fields::ENDPOINT, schema::object_schema};

/// The form of a registration; `mesh::Registration` reads it.
pub struct RegistrationForm;

impl JsonSchema for RegistrationForm {
    fn schema_name() -> Cow<'static, str> {
        "Registration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = object_schema(&ENDPOINT);
        schema["description"] = json!("An instance of a service.");
        let service = "Of which service; may be left out where the path says it.";
        schema["properties"]["service"] = json!({"type": "string", "description": service});
        schema["properties"]["id"] = json!({
            "type": "string",
            "description": "Unique in the service; the `node.id` of its sidecar. `HOST:PORT` when left out.",
        });
        let ttl = "Without a heartbeat for so long, it is taken for gone (1s to 1h).";
        schema["properties"]["ttl"] =
            json!({"type": "string", "default": "30s", "description": ttl});
        Schema::try_from(schema).unwrap_or_default()
    }
}
