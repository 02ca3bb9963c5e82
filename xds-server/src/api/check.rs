//! `GET /api/v1/check`: what a person should know of the running mesh.

use std::sync::Arc;

use axum::{extract::State as Extract, response::Response};
use serde_json::json;

use super::{State, made_apart};
use crate::{
    check::{Seen, check},
    clock,
};

pub(super) async fn checked(Extract(state): Extract<State>) -> Response {
    made_apart(move || {
        let revision = Arc::clone(&state.revisions.borrow());
        let refused = state.refusal.borrow().clone();
        let refused = refused.iter().flat_map(|refusal| &refusal.problems);
        let unhealthy = state.health.unhealthy();
        let now = clock::now();
        let items = check(&Seen {
            mesh: &revision.mesh,
            revision: revision.number,
            refused: refused.map(ToString::to_string).collect(),
            resource_problems: {
                let problems = state.resource_problems.borrow().clone();
                problems.iter().map(ToString::to_string).collect()
            },
            store_problem: state.catalog.store_problem(),
            certificates: &state.authority.list(),
            unhealthy: &Arc::clone(&unhealthy.borrow()),
            streams: &state.fleet.streams(),
            filter_sha256: state.code.sha256(),
            now,
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": revision.mesh.timetable.zone().rfc3339(now),
            "now_unix_millis": now.unix_millis(),
            "filter_sha256": state.code.sha256(),
            "items": items,
        })
    })
    .await
}
