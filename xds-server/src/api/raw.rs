//! Raw resources: `POST /api/v1/resources:apply` and `GET /api/v1/resources`.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State as Extract, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use super::{State, problem};
use crate::{
    compile::{self, Encoder},
    raw::{
        self, Applied, Entry, FileProblem, Key, Mode, Nodes, Problem, Refusal, Source, StoreError,
    },
    resource::ResourceType,
};

/// Of one call.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A call with more bad resources has one cause, not a thousand.
const PROBLEMS_MAX: usize = 100;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route(
            "/api/v1/resources:apply",
            post(apply).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)),
        )
        .route("/api/v1/resources", get(list))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyQuery {
    #[serde(default)]
    dry_run: bool,
}

async fn apply(
    Extract(state): Extract<State>,
    query: Result<Query<ApplyQuery>, axum::extract::rejection::QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mode = match query {
        Ok(Query(ApplyQuery { dry_run: true })) => Mode::DryRun,
        Ok(_) => Mode::Apply,
        Err(error) => {
            let said = format!("{}; known: dry_run=true|false", error.body_text());
            return problem(StatusCode::BAD_REQUEST, &said);
        }
    };
    let body = match body {
        Ok(body) => body,
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return problem(
                error.status(),
                &"the body is larger than 64 MiB; send the resources in several calls",
            );
        }
        Err(error) => return problem(error.status(), &error.body_text()),
    };
    // It waits for the disk.
    let resources = Arc::clone(&state.resources);
    match tokio::task::spawn_blocking(move || resources.apply(&body, mode)).await {
        Ok(Ok(Applied { revision, .. })) if mode == Mode::Apply => {
            Json(json!({"revision": revision})).into_response()
        }
        Ok(Ok(Applied { revision, changes })) => {
            Json(json!({"revision": revision, "dry_run": true, "changes": changes})).into_response()
        }
        Ok(Err(refusal)) => refused(refusal),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn refused(refusal: Refusal) -> Response {
    let (status, problems, sentence) = match refusal {
        Refusal::Invalid(problems) => (
            StatusCode::BAD_REQUEST,
            problems,
            "problem(s); nothing was applied",
        ),
        Refusal::Conflict(problems) => (
            StatusCode::CONFLICT,
            problems,
            "resource(s) that somebody else holds; nothing was applied",
        ),
        Refusal::Store(error) => {
            warn!(%error, "resources were not applied");
            let status = match error {
                StoreError::Full(..) => StatusCode::INSUFFICIENT_STORAGE,
                StoreError::InUse(_) | StoreError::Broken(..) => StatusCode::SERVICE_UNAVAILABLE,
            };
            return problem(status, &format!("nothing was applied: {error}"));
        }
    };
    let first = problems
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let body = json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": format!("{} {sentence}: {first}", problems.len()),
        "problems": problems.iter().take(PROBLEMS_MAX).collect::<Vec<&Problem>>(),
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    full: Option<bool>,
}

/// One resource, as people are shown it.
#[derive(Serialize)]
struct Listed<'s> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'s str,
    nodes: &'s Nodes,
    version: &'s str,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'s str>,
    #[serde(rename = "override")]
    overrides: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Value>,
}

async fn list(
    Extract(state): Extract<State>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => {
            let said = format!("{}; known: type, name, full=true|false", error.body_text());
            return problem(StatusCode::BAD_REQUEST, &said);
        }
    };
    let kind = match query
        .kind
        .as_deref()
        .map(|url| (url, ResourceType::from_url(url)))
    {
        None => None,
        Some((_, Some(kind))) => Some(kind),
        Some((url, None)) => {
            let known = ResourceType::IN_ORDER.map(ResourceType::url).join(", ");
            let said = format!("type={url:?} is not served; must be one of {known}");
            return problem(StatusCode::BAD_REQUEST, &said);
        }
    };
    let raw = Arc::clone(&state.raw.borrow());
    let is_full = query.full.unwrap_or(query.name.is_some());
    let wanted = |key: &Key| {
        kind.is_none_or(|kind| key.kind == kind)
            && query.name.as_deref().is_none_or(|name| *key.name == *name)
    };
    let listed: Vec<Listed<'_>> = raw
        .iter()
        .filter(|(key, _)| wanted(key))
        .map(|(key, entry)| listed(key, entry, is_full.then_some(&*state.encoder)))
        .collect();
    let mut problems: Vec<FileProblem> = state.resource_problems.borrow().to_vec();
    problems.extend(hidden_by_the_mesh(&state, &raw));
    Json(json!({"revision": raw.revision(), "resources": listed, "problems": problems}))
        .into_response()
}

fn listed<'s>(key: &'s Key, entry: &'s Entry, full: Option<&Encoder>) -> Listed<'s> {
    let (source, file) = match &entry.source {
        Source::Api => ("api", None),
        Source::File(file) => ("file", Some(&**file)),
    };
    Listed {
        kind: key.kind.url(),
        name: &key.name,
        nodes: &key.nodes,
        version: &entry.resource.version,
        source,
        file,
        overrides: entry.overrides,
        resource: full.and_then(|encoder| body(key.kind, entry, encoder)),
    }
}

fn body(kind: ResourceType, entry: &Entry, encoder: &Encoder) -> Option<Value> {
    let mut body: Value = serde_json::from_str(&entry.body).ok()?;
    raw::redact(encoder.descriptors(), &encoder.message(kind)?, &mut body);
    Some(body)
}

/// Resources that came before the mesh produced one of their name.
fn hidden_by_the_mesh(state: &State, raw: &raw::RawState) -> Vec<FileProblem> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let names = compile::names(&mesh);
    raw.iter()
        .filter(|(key, entry)| {
            !entry.overrides && names.contains(&(key.kind, key.name.to_string()))
        })
        .map(|(key, entry)| FileProblem {
            file: match &entry.source {
                Source::Api => None,
                Source::File(file) => Some(file.to_string()),
            },
            problem: Problem {
                kind: Some(key.kind.url().into()),
                name: Some((&*key.name).into()),
                ..Problem::new(format!(
                    "not in force for {} where the mesh produces a resource of this name; say \
                     \"override\": true to replace it",
                    key.nodes
                ))
            },
        })
        .collect()
}
