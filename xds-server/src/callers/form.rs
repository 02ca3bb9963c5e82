//! The forms of what callers send, as JSON Schema. `question` reads them, and tells every problem at once, which no
//! derived reader does; the tests hold the two against each other.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// A call that somebody is about to make.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Selecting")]
#[expect(dead_code, reason = "only described: `Wanted` reads it")]
pub struct SelectForm {
    /// Whom they call.
    service: String,
    /// Where they stand.
    zone: Option<String>,
    /// / when it is left out.
    path: Option<String>,
    /// GET when it is left out.
    method: Option<String>,
    /// The request's headers.
    headers: Option<BTreeMap<String, String>>,
}

/// How one call ended, or up to a thousand.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "CallResults")]
pub enum ResultsForm {
    /// One.
    One(ResultForm),
    /// Several.
    Many(ManyForm),
}

/// How several calls ended.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ManyCallResults")]
#[expect(dead_code, reason = "only described: `Report` reads it")]
pub struct ManyForm {
    /// Each of them; all are counted, or none.
    #[schemars(length(min = 1, max = 1_000))]
    results: Vec<ResultForm>,
}

/// How a call ended: with the ticket that select gave, or with the service.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CallResult")]
#[expect(dead_code, reason = "only described: `Report` reads it")]
pub struct ResultForm {
    /// What select gave.
    ticket: Option<String>,
    /// Without a ticket: whom they called.
    service: Option<String>,
    /// Without a ticket: which version; stable when it is left out.
    version: Option<String>,
    /// Without a ticket: of which class the request was; the service's own when it is left out.
    class: Option<String>,
    /// The answer's status.
    #[schemars(range(min = 100, max = 599))]
    status: Option<u16>,
    /// The answer's gRPC status.
    #[schemars(range(min = 0, max = 16))]
    grpc_status: Option<u32>,
    /// Why there was no answer, in place of status.
    error: Option<CallError>,
    /// How long it took, such as 120ms.
    time: Option<String>,
}

/// Why there was no answer.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[expect(dead_code, reason = "only described: `Report` reads it")]
enum CallError {
    /// None in time.
    Timeout,
    /// No connection was had, or it broke before the whole answer had come.
    Connection,
    /// The caller gave up first.
    Cancelled,
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::{Value, json};

    use super::*;
    use crate::callers::{Report, Wanted};

    fn fits(schema: &Value, body: &Value) -> bool {
        let known = &schema["properties"];
        let has = |name: &String| body.get(name).is_some_and(|value| !value.is_null());
        let required = schema["required"].as_array().into_iter().flatten();
        let mut required = required.map(|name| name.as_str().unwrap().to_string());
        let fields = body.as_object().unwrap();
        fields.keys().all(|name| known.get(name).is_some()) && required.all(|name| has(&name))
    }

    #[test]
    fn what_is_described_is_what_is_read() {
        let whole = json!({
            "service": "order-service", "zone": "mumbai-west", "path": "/", "method": "GET",
            "headers": {"x-user-id": "1"},
        });
        let schema = schema_for!(SelectForm).to_value();
        let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let said: Vec<&String> = whole.as_object().unwrap().keys().collect();
        assert_eq!(names, said);
        for body in [
            whole,
            json!({"service": "a"}),
            json!({"service": "a", "zone": null}),
        ] {
            assert!(
                fits(&schema, &body) && Wanted::read(&body).is_ok(),
                "{body}"
            );
        }
        for body in [json!({}), json!({"service": "a", "region": "b"})] {
            assert!(
                !fits(&schema, &body) && Wanted::read(&body).is_err(),
                "{body}"
            );
        }
        let schema = schema_for!(ResultForm).to_value();
        let described = schema["properties"].as_object().unwrap();
        let read = [
            json!({"service": "a", "version": "v2", "class": "gold", "status": 200, "grpc_status": 0, "time": "1ms"}),
            json!({"service": "a", "error": "cancelled"}),
        ];
        for body in &read {
            assert!(
                fits(&schema, body) && Report::read_all(body).is_ok(),
                "{body}"
            );
        }
        let said = read
            .iter()
            .flat_map(|body| body.as_object().unwrap().keys());
        for name in described.keys().filter(|name| *name != "ticket") {
            assert!(
                said.clone().any(|said| said == name),
                "{name} is tried nowhere"
            );
        }
        let unknown = json!({"service": "a", "status": 200, "code": 1});
        assert!(!fits(&schema, &unknown) && Report::read_all(&unknown).is_err());
    }
}
