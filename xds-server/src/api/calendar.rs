//! `GET /api/v1/calendar/…`.

use std::sync::Arc;

use axum::{extract::State as Extract, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    State,
    answer::Answered,
    asked::{Query, instant},
    made_apart, problem,
};
use crate::{
    calendar::{self, Month, MonthOf, Outlook},
    clock,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NextQuery {
    /// RFC 3339: what comes after it; now when it is left out.
    at: Option<String>,
    /// How many changes: 1 to 1000, 10 when it is left out.
    count: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MonthQuery {
    /// Such as 2026-11; the current one when it is left out.
    month: Option<String>,
}

/// What changes from `at` on, else from now on.
pub(super) async fn next(
    Extract(state): Extract<State>,
    Query(query): Query<NextQuery>,
) -> Answered<Outlook> {
    let refusal = |detail: &dyn ToString| problem(StatusCode::BAD_REQUEST, detail).into();
    let count = match calendar::count(query.count) {
        Ok(count) => count,
        Err(error) => return refusal(&error),
    };
    let at = match instant(query.at.as_deref()) {
        Ok(at) => at,
        Err(error) => return refusal(&error),
    };
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    made_apart(move || calendar::outlook(&mesh, at, count)).await
}

/// A month by its days, the current one unless another is named.
pub(super) async fn month(
    Extract(state): Extract<State>,
    Query(query): Query<MonthQuery>,
) -> Answered<Month> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let month = match query.month.as_deref().map(MonthOf::parse).transpose() {
        Ok(month) => month.unwrap_or_else(|| MonthOf::at(&mesh, clock::now())),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error).into(),
    };
    made_apart(move || calendar::month(&mesh, month)).await
}
