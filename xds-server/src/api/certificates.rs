//! `GET /api/v1/certificates`: which certificates are in use. No key is ever shown.

use axum::{Json, extract::State as Extract};
use serde_json::{Value, json};
use std::sync::Arc;

use super::State;
use crate::explain;

pub(super) async fn certificates(Extract(state): Extract<State>) -> Json<Value> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let zone = mesh.timetable.zone();
    let shown = state.authority.list().into_iter().map(|one| {
        json!({
            "kind": one.kind,
            "name": one.name,
            "spiffe_id": (!one.spiffe_id.is_empty()).then_some(one.spiffe_id),
            "serial": one.serial,
            "not_before": explain::rfc3339(zone, one.not_before),
            "not_after": explain::rfc3339(zone, one.not_after),
            "renews_at": one.renews_at.map(|at| explain::rfc3339(zone, at)),
            "problem": one.problem,
        })
    });
    let shown: Vec<Value> = shown.collect();
    Json(json!({"certificates": shown}))
}
