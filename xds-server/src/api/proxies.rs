//! `GET /api/v1/proxies` and `GET /api/v1/proxies/NODE/config`.

use std::sync::Arc;

use axum::{extract::State as Extract, http::StatusCode};
use policy::units::ServiceName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    State,
    answer::Answered,
    asked::{PageOf, Path, Query},
    made_apart, problem, tried_apart,
};
use crate::{
    page::Page,
    proxies::{self, Asked, Configs, Proxy, Wanted},
    resource::ResourceType,
};

/// Every connected node, or those that the query wants, a page at a time.
pub(super) async fn proxies(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<Wanted>,
) -> Answered<Page<Proxy>> {
    made_apart(move || {
        let mesh = Arc::clone(&state.revisions.borrow().mesh);
        let size = |cluster: &str| {
            let member = ServiceName::new(cluster).ok()?;
            Some(state.census.told(&mesh, &member)?.get())
        };
        let zone = mesh.timetable.zone();
        let page = proxies::page(&state.fleet.streams(), &wanted, zone);
        proxies::with_fleet_sizes(page, size)
    })
    .await
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigQuery {
    /// Its `node.cluster`, where several have the id.
    cluster: Option<String>,
    /// `CDS`, `EDS`, … or a type's URL: these alone.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Resources of this name alone.
    name: Option<String>,
}

/// What a node was sent and what it made of it, without its secrets.
pub(super) async fn config(
    Extract(state): Extract<State>,
    Path(node): Path<String>,
    Query(query): Query<ConfigQuery>,
) -> Answered<Configs> {
    let kind = match query.kind.as_deref().map(kind).transpose() {
        Ok(kind) => kind,
        Err(refusal) => return problem(StatusCode::BAD_REQUEST, &refusal).into(),
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
