//! `GET /metrics`, for Prometheus.

use axum::{
    extract::State as Extract,
    http::{StatusCode, header},
    response::IntoResponse,
};
use prometheus::{TEXT_FORMAT, TextEncoder};

use super::{
    State,
    answer::{Answer, Media},
    problem,
};
use crate::{clock, proxies};

/// The text form of Prometheus.
pub(super) struct Metrics;

impl Media for Metrics {
    const TYPE: &'static str = TEXT_FORMAT;
    const SAYS: &'static str = "In the text form of Prometheus.";
}

/// Every metric of this process.
pub(super) async fn metrics(Extract(state): Extract<State>) -> Answer<Metrics> {
    let fleet = proxies::observed(&state.fleet.streams(), clock::now());
    state.fleet.metrics().observe(&fleet);
    match TextEncoder::new().encode_to_string(&state.registry.gather()) {
        Ok(page) => {
            let kind = [(header::CONTENT_TYPE, TEXT_FORMAT)];
            Answer::made((kind, page).into_response())
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    }
}
