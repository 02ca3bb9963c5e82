//! `GET /services`, and the same as `GET /api/v1/services`.

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    response::Response,
};

use policy::units::ServiceName;

use super::{State, page::page};
use crate::{clock, health::view::Wanted};

/// Every service with its endpoints and what is known of their health, or those that the query wants, a
/// page at a time.
pub(super) async fn services(
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
            let breaker = |name: &ServiceName| state.callers.breakers(name);
            let zone = mesh.timetable.zone();
            state.health.page(mesh, wanted, zone, clock::now(), breaker)
        },
    )
    .await
}
