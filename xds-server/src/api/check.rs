//! `GET /api/v1/check`: what a person should know of the running mesh.

use std::sync::Arc;

use axum::extract::State as Extract;
use schemars::JsonSchema;
use serde::Serialize;

use super::{State, answer::Answered, made_apart};
use crate::{
    check::{Item, Seen, check},
    clock,
};

/// What was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Checked {
    /// Of the server.
    version: &'static str,
    /// By its clock.
    now: String,
    /// The same, in milliseconds since 1970.
    now_unix_millis: i64,
    /// Of the filter that it serves, lower-case hex.
    filter_sha256: String,
    /// In groups.
    items: Vec<Item>,
}

pub(super) async fn checked(Extract(state): Extract<State>) -> Answered<Checked> {
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
        Checked {
            version: env!("CARGO_PKG_VERSION"),
            now: revision.mesh.timetable.zone().rfc3339(now),
            now_unix_millis: now.unix_millis(),
            filter_sha256: state.code.sha256().to_string(),
            items,
        }
    })
    .await
}
