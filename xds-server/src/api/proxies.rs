//! `GET /api/v1/proxies`.

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    response::Response,
};

use super::{State, made_apart, page::read};
use crate::proxies::{self, Wanted};

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
