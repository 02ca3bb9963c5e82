//! What is served as it stands: whether the server is well, and the filter.

use axum::{extract::State as Extract, http::header, response::IntoResponse};

use super::{
    State,
    answer::{Answer, Media},
};

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz() -> &'static str {
    "ready\n"
}

/// The filter.
pub(super) struct Wasm;

impl Media for Wasm {
    const TYPE: &'static str = "application/wasm";
    const SAYS: &'static str = "The filter.";
}

pub(super) async fn filter(Extract(state): Extract<State>) -> Answer<Wasm> {
    let headers = [
        (header::CONTENT_TYPE, Wasm::TYPE.to_string()),
        (header::ETAG, format!("\"{}\"", state.code.sha256())),
    ];
    Answer::made((headers, state.code.bytes().clone()).into_response())
}
