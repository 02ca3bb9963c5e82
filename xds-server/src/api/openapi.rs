//! `GET /api/v1/openapi.json`: the API as OpenAPI 3.1 has it, made of the table of routes and of the types of their
//! handlers.

use std::collections::BTreeSet;

use axum::{
    http::{StatusCode, header},
    response::IntoResponse,
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, Media},
    operation::{Operation, name_of},
    problems::ProblemBody,
    routes::{Entry, Table},
};
use crate::access::{Need, Role};

/// What those who read it should know first.
const SAYS: &str = "Whoever shows no token may do what `--anonymous-role` says: on loopback everything, elsewhere \
    nothing. Every refusal is `application/problem+json` (RFC 9457) and says what to do. What changes something takes \
    `?dry_run=true`. Lists come a page at a time: `limit` says how many, `left_off` how many follow, and `next` is \
    given as `after` for those.";

/// Where it is served.
pub(super) const PATHS: [&str; 2] = ["/api/v1/openapi.json", "/api/openapi.json"];

/// What it says of itself.
pub(super) const TOLD: &str = "This API, as OpenAPI 3.1.";

/// The description of the API.
pub(super) struct Description;

impl Media for Description {
    const TYPE: &'static str = "application/openapi+json";
    const SAYS: &'static str = "This document.";
}

pub(super) async fn openapi() -> Answer<Description> {
    let kind = [(header::CONTENT_TYPE, Description::TYPE)];
    Answer::made((kind, document(&super::table()).to_string()).into_response())
}

/// The whole document.
pub fn document(table: &Table) -> Value {
    let generator = |settings: SchemaSettings| -> SchemaGenerator {
        let settings = settings.with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        settings.into_generator()
    };
    let mut takes = generator(SchemaSettings::draft2020_12().for_deserialize());
    let mut gives = generator(SchemaSettings::draft2020_12().for_serialize());
    let problem = gives.subschema_for::<ProblemBody>();
    let mut paths = Map::new();
    let mut refusals = BTreeSet::new();
    let mut tags = BTreeSet::new();
    for entry in table.iter() {
        let told = told(entry, &mut takes, &mut gives);
        let statuses = told["responses"]
            .as_object()
            .into_iter()
            .flat_map(Map::keys);
        refusals.extend(statuses.filter_map(|status| status.parse::<u16>().ok()));
        tags.insert(tag(entry.path));
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        path[entry.method.to_ascii_lowercase()] = told;
    }
    let mut schemas = takes.take_definitions(true);
    schemas.extend(gives.take_definitions(true));
    schemas.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mumbai-mesh",
            "summary": "The management API of mumbai-mesh.",
            "description": SAYS,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/", "description": "This server."}],
        "security": [{}, {"token": []}],
        "tags": tags.iter().map(|tag| json!({"name": tag})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses(&refusals, &problem.to_value()),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of `mumbai-mesh token create`. Each role may do what the one before it may: \
                    viewer, operator, admin.",
            }},
        },
    })
}

/// One route.
fn told(entry: &Entry, takes: &mut SchemaGenerator, gives: &mut SchemaGenerator) -> Value {
    let mut operation = Operation::new(entry.path, entry.bytes_max, takes, gives);
    (entry.describe)(&mut operation);
    let also = entry.told.refusals.iter();
    let also: Vec<StatusCode> = also
        .filter_map(|status| StatusCode::from_u16(*status).ok())
        .collect();
    operation.may_refuse(&also);
    if entry.needs != Need::Nothing {
        operation.may_refuse(&[StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]);
    }
    if entry.writes {
        operation.may_refuse(&[
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::INSUFFICIENT_STORAGE,
        ]);
    }
    let mut value = Map::new();
    let name = match entry.path {
        // What is served at two paths is called by two names.
        "/services" | "/api/openapi.json" => format!("{}_unversioned", entry.name()),
        "/api/v1/calendar" => "calendar".into(),
        _ => entry.name(),
    };
    value.insert("operationId".into(), json!(name));
    value.insert("tags".into(), json!([tag(entry.path)]));
    value.insert("summary".into(), json!(entry.told.summary));
    if !entry.told.more.is_empty() {
        value.insert("description".into(), json!(entry.told.more));
    }
    value.insert("x-role".into(), json!(entry.needs.as_str()));
    value.insert("x-writes".into(), json!(entry.writes));
    match entry.needs {
        Need::Nothing => _ = value.insert("security".into(), json!([])),
        Need::Role(Role::Viewer | Role::Operator | Role::Admin) => {}
    }
    value.extend(operation.into_value());
    Value::Object(value)
}

/// `canaries` of `/api/v1/canaries/{service}`; `server` of what is nobody's.
fn tag(path: &'static str) -> &'static str {
    let Some(rest) = path.strip_prefix("/api/v1/") else {
        return match path {
            "/services" => "services",
            "/api/metrics" => "metrics",
            _ => "server",
        };
    };
    let end = rest.find(['/', ':', '.']).unwrap_or(rest.len());
    match &rest[..end] {
        "openapi" => "server",
        tag => tag,
    }
}

fn responses(statuses: &BTreeSet<u16>, problem: &Value) -> Value {
    let answer = |said: &str| {
        json!({
            "description": said,
            "content": {"application/problem+json": {"schema": problem}},
        })
    };
    let mut responses = Map::new();
    for status in statuses.iter().filter(|status| **status >= 400) {
        responses.insert(name_of(*status), answer(meaning(*status)));
    }
    responses.insert("Problem".into(), answer("Anything else that goes wrong."));
    Value::Object(responses)
}

/// What a refusal with this status means here.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "What was sent cannot be used as it is.",
        401 => "No token, or one that is worth nothing.",
        403 => "The token's role may not do that, or a web page of another origin asks.",
        404 => "There is no such thing.",
        409 => "Not as things stand: files say it, a freeze holds, or somebody else has it.",
        412 => "If-Match: something else is in force.",
        413 => "It is larger than this call takes.",
        415 => "A content-type or content-encoding that is not taken.",
        422 => "An Envoy rejected it; what was in force before is again.",
        429 => "By a limit or by shedding, as a proxy refuses.",
        503 => "Not at the moment: the store does not answer, or too many ask.",
        507 => "The disk is full: nothing was changed.",
        _ => "It went wrong.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_definition_has_a_name_of_its_own() {
        let document = document(&super::super::table());
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 100, "{}", references.len());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap_or_default();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            // Two types of one name would be told apart by a number.
            assert!(!name.ends_with(|end: char| end.is_ascii_digit()), "{name}");
        }
    }

    #[test]
    fn the_committed_document_is_what_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let made = format!("{:#}\n", document(&super::super::table()));
        assert!(
            written == made,
            "docs/openapi.json is out of date: cargo run -p mumbai-mesh -- openapi > docs/openapi.json"
        );
    }

    fn collect<'d>(value: &'d Value, references: &mut Vec<&'d str>) {
        match value {
            Value::Object(fields) => {
                references.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| collect(value, references));
            }
            Value::Array(all) => all.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }

    #[test]
    fn every_route_says_what_it_does_in_a_sentence_of_its_own() {
        let mut seen = BTreeSet::new();
        let mut names = BTreeSet::new();
        for entry in super::super::table().iter() {
            let summary = entry.told.summary;
            assert!(
                summary.ends_with('.') && summary.len() > 10,
                "{} {summary:?}",
                entry.path
            );
            // What is served at two paths is told at both.
            if seen.insert(summary) {
                assert!(names.insert(entry.name()), "{} twice", entry.name());
            }
        }
    }
}
