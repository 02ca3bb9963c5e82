//! `GET /api/v1/calendar/…`.

use std::sync::Arc;

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use policy::time::parse_instant;
use serde::Deserialize;

use super::{State, made_apart, problem};
use crate::{
    calendar::{self, MonthOf},
    clock,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NextQuery {
    at: Option<String>,
    count: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MonthQuery {
    month: Option<String>,
}

/// What changes from `at` on, else from now on.
pub(super) async fn next(
    Extract(state): Extract<State>,
    query: Result<Query<NextQuery>, QueryRejection>,
) -> Response {
    let refusal = |detail: &dyn ToString| problem(StatusCode::BAD_REQUEST, detail);
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return refusal(&error.body_text()),
    };
    let count = match calendar::count(query.count) {
        Ok(count) => count,
        Err(error) => return refusal(&error),
    };
    let at = match query.at.as_deref().map(parse_instant).transpose() {
        Ok(at) => at.unwrap_or_else(clock::now),
        Err(error) => return refusal(&format!("at: {error}")),
    };
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    made_apart(move || calendar::outlook(&mesh, at, count)).await
}

/// A month by its days, the current one unless another is named.
pub(super) async fn month(
    Extract(state): Extract<State>,
    query: Result<Query<MonthQuery>, QueryRejection>,
) -> Response {
    let refusal = |detail: &dyn ToString| problem(StatusCode::BAD_REQUEST, detail);
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return refusal(&error.body_text()),
    };
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let month = match query.month.as_deref().map(MonthOf::parse).transpose() {
        Ok(month) => month.unwrap_or_else(|| MonthOf::at(&mesh, clock::now())),
        Err(error) => return refusal(&error),
    };
    made_apart(move || calendar::month(&mesh, month)).await
}
