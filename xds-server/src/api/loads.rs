//! `GET /api/v1/loads`.

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};

use super::{State, made_apart, problem};
use crate::{clock, load_reports::view::Wanted};

/// The load that each node reported, or those that the query wants, a page at a time.
pub(super) async fn loads(
    Extract(state): Extract<State>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match query {
        Ok(Query(wanted)) => wanted,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    if let Some(limit) = wanted.limit
        && !(1..=Wanted::LIMIT_MAX).contains(&limit)
    {
        let maximum = Wanted::LIMIT_MAX;
        let detail = format!("limit: {limit} is not from 1 to {maximum}; use after for more");
        return problem(StatusCode::BAD_REQUEST, &detail);
    }
    made_apart(move || {
        let revision = state.revisions.borrow().clone();
        let zone = revision.mesh.timetable.zone();
        state.loads.page(&wanted, zone, clock::now())
    })
    .await
}
