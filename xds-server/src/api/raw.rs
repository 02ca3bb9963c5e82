//! Raw resources: `POST /api/v1/resources:apply` and `GET /api/v1/resources`.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State as Extract, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use super::{State, problem, unkept};
use crate::{
    raw::{Applied, Entry, FileProblem, Key, Mode, Nodes, Refusal, Source},
    redact::Redactor,
    resource::ResourceType,
};

/// Of one call.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

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
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if is_from_elsewhere(&headers) {
        return problem(
            StatusCode::FORBIDDEN,
            &"a web page of another origin asks; call it by its loopback address",
        );
    }
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
            // Who connects after the answer is sent what was applied. An error is the server's end.
            let mut published = state.published.clone();
            let _ = published.wait_for(|published| *published >= revision).await;
            Json(json!({"revision": revision})).into_response()
        }
        Ok(Ok(Applied { revision, changes })) => {
            Json(json!({"revision": revision, "dry_run": true, "changes": changes})).into_response()
        }
        Ok(Err(refusal)) => refused(refusal),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

/// Whether a browser sends this for a page that is not ours. Such a page reaches loopback as any program
/// here does, by our address or by a name of its own that leads to it; only programs may write.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let host = text(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_ours = name == "localhost"
        || name
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    text(header::ORIGIN).is_some_and(|origin| !is_ours || origin != format!("http://{host}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_may_not_write() {
        let asked = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_from_elsewhere(&headers)
        };
        assert!(!asked("127.0.0.1:8088", None));
        assert!(!asked("127.0.0.1:8088", Some("http://127.0.0.1:8088")));
        assert!(!asked("[::1]:8088", Some("http://[::1]:8088")));
        assert!(!asked("localhost:8088", Some("http://localhost:8088")));
        assert!(asked("127.0.0.1:8088", Some("http://evil.example")));
        assert!(asked("127.0.0.1:8088", Some("http://127.0.0.1:3000")));
        assert!(asked("127.0.0.1:8088", Some("null")));
        assert!(asked("evil.example:8088", Some("http://evil.example:8088")));
    }
}
