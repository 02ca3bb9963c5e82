//! `GET /metrics`, for Prometheus.

use axum::{
    extract::State as Extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus::{TEXT_FORMAT, TextEncoder};

use super::{State, problem};
use crate::{clock, proxies};

/// Every metric of this process.
pub(super) async fn metrics(Extract(state): Extract<State>) -> Response {
    let fleet = proxies::observed(&state.fleet.streams(), clock::now());
    state.fleet.metrics().observe(&fleet);
    match TextEncoder::new().encode_to_string(&state.registry.gather()) {
        Ok(page) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}
