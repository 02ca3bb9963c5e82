//! `GET /api/v1/proxies` and `GET /api/v1/proxies/NODE/config`.

use axum::{
    extract::{Path, Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{State, made_apart, page::read, problem};
use crate::{
    proxies::{self, Asked, Wanted},
    resource::ResourceType,
};

/// Every connected node, or those that the query wants, a page at a time.
pub(super) async fn proxies(
    Extract(state): Extract<State>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match read(query, Wanted::LIMIT_MAX, |wanted| wanted.limit) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    made_apart(move || {
        let revision = state.revisions.borrow().clone();
        let zone = revision.mesh.timetable.zone();
        proxies::page(&state.fleet.streams(), &wanted, zone)
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigQuery {
    cluster: Option<String>,
    /// `CDS`, …, or a type's URL.
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
}

/// What a node was sent and what it made of it, without its secrets.
pub(super) async fn config(
    Extract(state): Extract<State>,
    Path(node): Path<String>,
    query: Result<Query<ConfigQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => {
            let said = format!("{}; known: cluster, type, name", error.body_text());
            return problem(StatusCode::BAD_REQUEST, &said);
        }
    };
    let kind = match query.kind.as_deref().map(kind).transpose() {
        Ok(kind) => kind,
        Err(refusal) => return problem(StatusCode::BAD_REQUEST, &refusal),
    };
    let asked = Asked {
        node,
        cluster: query.cluster,
        kind,
        name: query.name,
    };
    let made = tokio::task::spawn_blocking(move || {
        let revision = state.revisions.borrow().clone();
        let zone = revision.mesh.timetable.zone();
        let streams = state.fleet.streams();
        let configs = proxies::config(&streams, &asked, &state.redactor, zone);
        configs.map(|configs| serde_json::to_vec(&configs))
    });
    match made.await {
        Ok(Ok(Ok(body))) => {
            let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
            (json, body).into_response()
        }
        Ok(Ok(Err(error))) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
        Ok(Err(unknown)) => problem(StatusCode::NOT_FOUND, &unknown),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn kind(asked: &str) -> Result<ResourceType, String> {
    let mut all = ResourceType::IN_ORDER.into_iter();
    let named = all.find(|kind| kind.api() == asked);
    named
        .or_else(|| ResourceType::from_url(asked))
        .ok_or_else(|| {
            let known = ResourceType::IN_ORDER.map(ResourceType::api).join(", ");
            format!("type: {asked:?} is not served; must be one of {known}")
        })
}
