//! `GET /api/v1/traffic-state`.

use std::sync::Arc;

use axum::{extract::State as Extract, http::StatusCode};
use policy::units::{ServiceName, ZoneName};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    State,
    answer::Answered,
    asked::{Query, instant},
    problem, tried_apart,
};
use crate::calendar::{self, TrafficNow};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TrafficStateQuery")]
pub(super) struct Asked {
    /// RFC 3339; now when it is left out.
    at: Option<String>,
    /// For nodes of this zone.
    zone: Option<String>,
    /// For this service alone.
    service: Option<String>,
}

/// What holds now, or at an instant, and until when.
pub(super) async fn state(
    Extract(state): Extract<State>,
    Query(asked): Query<Asked>,
) -> Answered<TrafficNow> {
    let refusal = |detail: &dyn ToString| problem(StatusCode::BAD_REQUEST, detail).into();
    let at = match instant(asked.at.as_deref()) {
        Ok(at) => at,
        Err(error) => return refusal(&error),
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
