//! Questions to the mesh in force: `GET /api/v1/explain` and `GET /api/v1/bootstrap/NAME`.

use std::sync::Arc;

use axum::{extract::State as Extract, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    State,
    answer::Answered,
    asked::{Path, Query},
    canaries, problem,
};
use crate::{
    bootstrap::Member,
    clock,
    explain::{self, Explanation, Question},
};

/// What a bootstrap has to know.
pub(super) async fn bootstrap(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
) -> Answered<Member> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    match Member::find(&mesh, &name) {
        Ok(member) => Answered::of(&member),
        Err(error) => problem(StatusCode::NOT_FOUND, &error).into(),
    }
}

/// The question of `explain`, as a query string.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// The service called through a sidecar.
    service: Option<String>,
    /// Or the gateway that is called.
    gateway: Option<String>,
    /// RFC 3339, seconds optional; now when it is left out.
    at: Option<String>,
    /// Its path; / when it is left out.
    path: Option<String>,
    /// Its method; GET when it is left out.
    method: Option<String>,
    /// Zone of the Envoy that decides.
    zone: Option<String>,
    /// Headers of the request, each `name:value`, one a line.
    header: Option<String>,
}

/// What would happen to a request.
pub(super) async fn explain(
    Extract(state): Extract<State>,
    Query(query): Query<ExplainQuery>,
) -> Answered<Explanation> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let headers: Vec<String> = query
        .header
        .iter()
        .flat_map(|lines| lines.lines().map(str::to_string))
        .collect();
    let question = Question {
        service: query.service,
        gateway: query.gateway,
        at: query.at,
        path: query.path,
        method: query.method,
        zone: query.zone,
        headers,
    };
    let sizes = Arc::clone(&state.census.sizes().borrow());
    match explain::explain_among(&mesh, &question, &sizes, clock::now()) {
        Ok(mut explanation) => {
            // What is in force is explained already; who laid it over what is written is not.
            if let Some(service) = &explanation.service {
                let operation = canaries::sentence(&state, service);
                explanation.reasons.extend(operation);
            }
            Answered::of(&explanation)
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &error).into(),
    }
}
