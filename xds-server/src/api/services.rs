//! `GET /services`, and the same as `GET /api/v1/services`.

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    response::Response,
};

use super::{State, made_apart, page::read};
use crate::{clock, health::view::Wanted};

/// Every service with its endpoints and what is known of their health, or those that the query wants, a
/// page at a time.
pub(super) async fn services(
    Extract(state): Extract<State>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match read(query, Wanted::LIMIT_MAX, |wanted| wanted.limit) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    made_apart(move || {
        let mesh = state.revisions.borrow().mesh.clone();
        let zone = mesh.timetable.zone();
        state.health.page(&mesh, &wanted, zone, clock::now())
    })
    .await
}
