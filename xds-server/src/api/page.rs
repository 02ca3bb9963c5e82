//! Queries of what is shown a page at a time.

use axum::{
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};

use super::problem;

/// The query, whose `limit` must be from 1 to `limit_max`.
///
/// # Errors
/// The answer that says what is wrong.
pub(super) fn read<W>(
    query: Result<Query<W>, QueryRejection>,
    limit_max: usize,
    limit: impl Fn(&W) -> Option<usize>,
) -> Result<W, Box<Response>> {
    let refusal = |detail: &dyn ToString| Box::new(problem(StatusCode::BAD_REQUEST, detail));
    let Query(wanted) = query.map_err(|error| refusal(&error.body_text()))?;
    match limit(&wanted) {
        Some(limit) if !(1..=limit_max).contains(&limit) => Err(refusal(&format!(
            "limit: {limit} is not from 1 to {limit_max}; use after for more"
        ))),
        _ => Ok(wanted),
    }
}
