//! `GET /api/v1/proxies` and `GET /api/v1/proxies/NODE/config`.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use policy::units::ServiceName;
use serde::Deserialize;

use super::{State, page::page, problem, tried_apart};
use crate::{
    proxies::{self, Asked, Wanted},
    resource::ResourceType,
};

/// Every connected node, or those that the query wants, a page at a time.
pub(super) async fn proxies(
    Extract(state): Extract<State>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let limit = |wanted: &Wanted| wanted.limit;
    page(
        state,
        query,
        Wanted::LIMIT_MAX,
        limit,
        |state, mesh, wanted| {
            let size = |cluster: &str| {
                let member = ServiceName::new(cluster).ok()?;
                Some(state.census.told(mesh, &member)?.get())
            };
            proxies::page(&state.fleet.streams(), wanted, mesh.timetable.zone())
                .with_fleet_sizes(size)
        },
    )
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
    tried_apart(StatusCode::NOT_FOUND, move || {
        let mesh = Arc::clone(&state.revisions.borrow().mesh);
        let streams = state.fleet.streams();
        proxies::config(&streams, &asked, &state.redactor, mesh.timetable.zone())
    })
    .await
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
