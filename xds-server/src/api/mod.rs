//! The HTTP API, as far as it stands: health, the filter, what bootstraps and `explain` ask, raw resources,
//! and what the fleet says.

mod calendar;
mod certificates;
mod loads;
mod metrics;
mod page;
mod proxies;
mod raw;
mod revisions;
mod services;

use std::{convert::Infallible, future::Future, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::Registry;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    bootstrap::Member,
    catalog::{Catalog, Refusal, Revision},
    clock,
    compile::FilterCode,
    explain::{self, Question},
    fleet::Fleet,
    health::owner::Health,
    load_reports::LoadReports,
    pki::authority::Authority,
    raw::{FileProblem, RawResources, RawState},
    redact::Redactor,
    store::StoreError,
};

/// What handlers may read.
#[derive(Clone)]
pub struct State {
    /// The mesh in force.
    pub revisions: watch::Receiver<Arc<Revision>>,
    /// The refusal outstanding.
    pub refusal: watch::Receiver<Option<Arc<Refusal>>>,
    /// Its history.
    pub catalog: Arc<Catalog>,
    /// What connected Envoys said.
    pub fleet: Arc<Fleet>,
    /// What load they reported.
    pub loads: Arc<LoadReports>,
    /// What is known of endpoints' health.
    pub health: Arc<Health>,
    /// Who issues certificates.
    pub authority: Arc<Authority>,
    /// Every metric of this process.
    pub registry: Registry,
    /// The filter.
    pub code: Arc<FilterCode>,
    /// Takes secrets out of what is shown.
    pub redactor: Arc<Redactor>,
    /// Where raw resources are changed.
    pub resources: Arc<RawResources>,
    /// Those in force.
    pub raw: watch::Receiver<Arc<RawState>>,
    /// Revision of those that Envoys are sent.
    pub published: watch::Receiver<u64>,
    /// What is wrong with the files of `--resources`.
    pub resource_problems: watch::Receiver<Arc<Vec<FileProblem>>>,
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: State,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        // The ports open only after the first mesh is loaded: who can ask, finds it ready.
        .route("/readyz", get(|| async { "ready\n" }))
        .route("/filter/mumbai_mesh.wasm", get(filter))
        .route("/services", get(services::services))
        .route("/api/v1/services", get(services::services))
        .route("/api/v1/revisions", get(revisions::revisions))
        .route("/api/v1/revisions/{revision}", get(revisions::one))
        .route("/api/v1/proxies", get(proxies::proxies))
        .route("/api/v1/proxies/{node}/config", get(proxies::config))
        .route("/api/v1/loads", get(loads::loads))
        .route("/api/v1/certificates", get(certificates::certificates))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/bootstrap/{name}", get(member))
        .route("/api/v1/explain", get(explain_request))
        .route("/api/v1/calendar/next", get(calendar::next))
        .route("/api/v1/calendar/month", get(calendar::month))
        .merge(raw::routes())
        .fallback(|| async { problem(StatusCode::NOT_FOUND, &"no such path") })
        .with_state(state);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await?;
    Ok(())
}

/// An answer that may be long in the making, made where it holds up nobody who serves Envoys.
async fn made_apart<T: Serialize>(make: impl FnOnce() -> T + Send + 'static) -> Response {
    let never = StatusCode::INTERNAL_SERVER_ERROR;
    tried_apart(never, || Ok::<T, Infallible>(make())).await
}

/// The same of an answer that there may not be: then the status, and why.
async fn tried_apart<T: Serialize, E: ToString + Send + 'static>(
    none: StatusCode,
    make: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Response {
    let make = || make().map(|made| serde_json::to_vec(&made));
    let json = [(header::CONTENT_TYPE, "application/json")];
    match tokio::task::spawn_blocking(make).await {
        Ok(Ok(Ok(body))) => (json, body).into_response(),
        Ok(Ok(Err(error))) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
        Ok(Err(why)) => problem(none, &why),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

/// `application/problem+json` (RFC 9457).
fn problem(status: StatusCode, detail: &dyn ToString) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({"title": title, "status": status.as_u16(), "detail": detail.to_string()});
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

/// A write that the store did not take.
fn unkept(error: &StoreError) -> Response {
    let (status, what) = match error {
        StoreError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "nothing was applied: "),
        StoreError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "nothing was applied: "),
        StoreError::Uncertain { .. } => (StatusCode::SERVICE_UNAVAILABLE, ""),
        StoreError::Moved { .. } | StoreError::InUse(_) | StoreError::Broken { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "nothing was applied: ")
        }
    };
    problem(status, &format!("{what}{error}"))
}

async fn filter(Extract(state): Extract<State>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/wasm".to_string()),
        (header::ETAG, format!("\"{}\"", state.code.sha256())),
    ];
    (headers, state.code.bytes().clone())
}

async fn member(Extract(state): Extract<State>, Path(name): Path<String>) -> Response {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    match Member::find(&mesh, &name) {
        Ok(member) => Json(member).into_response(),
        Err(error) => problem(StatusCode::NOT_FOUND, &error),
    }
}

/// The question of `explain`, as a query string; `header` is `name:value`, one a line.
#[derive(Debug, Deserialize)]
struct ExplainQuery {
    service: Option<String>,
    gateway: Option<String>,
    at: Option<String>,
    path: Option<String>,
    method: Option<String>,
    zone: Option<String>,
    header: Option<String>,
}

async fn explain_request(
    Extract(state): Extract<State>,
    Query(query): Query<ExplainQuery>,
) -> Response {
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
    match explain::explain(&mesh, &question, clock::now()) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error),
    }
}
