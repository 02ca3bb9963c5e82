//! `GET /api/v1/traffic-state`.

use std::sync::Arc;

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use policy::{
    time::parse_instant,
    units::{ServiceName, ZoneName},
};
use serde::Deserialize;

use super::{State, problem, tried_apart};
use crate::{calendar, clock};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    at: Option<String>,
    zone: Option<String>,
    service: Option<String>,
}

/// What holds now, or at an instant, and until when.
pub(super) async fn state(
    Extract(state): Extract<State>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let refusal = |detail: &dyn ToString| problem(StatusCode::BAD_REQUEST, detail);
    let Query(asked) = match query {
        Ok(query) => query,
        Err(error) => {
            return refusal(&format!("{}; known: at, zone, service", error.body_text()));
        }
    };
    let at = match asked.at.as_deref().map(parse_instant).transpose() {
        Ok(at) => at.unwrap_or_else(clock::now),
        Err(error) => return refusal(&format!("at: {error}")),
    };
    let zone = match asked.zone.as_deref().map(ZoneName::new).transpose() {
        Ok(zone) => zone,
        Err(error) => return refusal(&format!("zone: {error}")),
    };
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let service = match asked.service.as_deref().map(ServiceName::new).transpose() {
        Ok(service) => service,
        Err(error) => return refusal(&format!("service: {error}")),
    };
    tried_apart(StatusCode::NOT_FOUND, move || {
        let told = calendar::traffic_state(&mesh, at, zone.as_ref(), service.as_ref());
        told.ok_or_else(|| {
            let name = service.map_or_else(String::new, |service| service.to_string());
            format!("service: {name} is not in this mesh; GET /services has all")
        })
    })
    .await
}
