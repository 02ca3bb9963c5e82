//! `GET /api/v1/loads`.

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    response::Response,
};

use super::{State, page::page};
use crate::{clock, load_reports::view::Wanted};

/// The load that each node reported, or those that the query wants, a page at a time.
pub(super) async fn loads(
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
            state
                .loads
                .page(wanted, mesh.timetable.zone(), clock::now())
        },
    )
    .await
}
