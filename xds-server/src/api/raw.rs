//! Raw resources: `POST /api/v1/resources:apply` and `GET /api/v1/resources`.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State as Extract, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use super::{
    State,
    change::{self, while_frozen},
    guard::Wrote,
    how::How,
    problem, unkept,
};
use crate::{
    raw::{Applied, Entry, FileProblem, Key, Mode, Nodes, Refusal, Source},
    redact::Redactor,
    resource::ResourceType,
};

/// Of one call.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Sets and removes resources: all of a call, or nothing.
pub(super) async fn apply(
    Extract(state): Extract<State>,
    how: How,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let how = match how.checked() {
        Ok(how) => how,
        Err(refusal) => return change::refused(&refusal),
    };
    let mode = if how.dry_run {
        Mode::DryRun
    } else {
        Mode::Apply
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
    if mode == Mode::Apply
        && let Err(refusal) = while_frozen(&state, &how)
    {
        return *refusal;
    }
    // It waits for the disk.
    let (resources, about) = (Arc::clone(&state.resources), how.about("resources:apply"));
    let applying = tokio::task::spawn_blocking(move || resources.apply(&body, mode, &about));
    let applied = match applying.await {
        Ok(applied) => applied,
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    let (mut response, wrote) = match applied {
        Ok(Applied { revision, changes }) if mode == Mode::Apply => {
            // Who connects after the answer is sent what was applied. An error is the server's end.
            let mut published = state.published.clone();
            let _ = published.wait_for(|published| *published >= revision).await;
            let answer = Json(json!({"revision": revision}));
            let wrote = how.wrote(format!("resources set or removed: {changes}"));
            (answer.into_response(), wrote)
        }
        Ok(Applied { revision, changes }) => {
            let answer = json!({"revision": revision, "dry_run": true, "changes": changes});
            (Json(answer).into_response(), Wrote::Nothing)
        }
        Err(refusal) if mode == Mode::Apply => {
            let wrote = Wrote::done("nothing was applied");
            (refused(refusal), wrote)
        }
        Err(refusal) => (refused(refusal), Wrote::Nothing),
    };
    response.extensions_mut().insert(wrote);
    response
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
            return unkept(&error);
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
        "problems": problems,
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
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

/// Those in force.
pub(super) async fn list(
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
        .map(|(key, entry)| listed(key, entry, is_full.then_some(&*state.redactor)))
        .collect();
    let mut problems: Vec<FileProblem> = state.resource_problems.borrow().to_vec();
    problems.extend(state.resources.hidden_by_the_mesh(&raw));
    Json(json!({"revision": raw.revision(), "resources": listed, "problems": problems}))
        .into_response()
}

fn listed<'s>(key: &'s Key, entry: &'s Entry, full: Option<&Redactor>) -> Listed<'s> {
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
        resource: full.and_then(|redactor| shown(key.kind, entry, redactor)),
    }
}

/// As `set` takes it, but for what is secret.
fn shown(kind: ResourceType, entry: &Entry, redactor: &Redactor) -> Option<Value> {
    let mut shown = json!({"@type": kind.url()});
    let resource = redactor.json(kind, &entry.resource.body())?;
    let members = shown.as_object_mut()?;
    members.extend(resource.as_object()?.clone());
    Some(shown)
}
