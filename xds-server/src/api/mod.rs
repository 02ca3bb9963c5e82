//! The HTTP API, as far as it stands: health, the filter, what bootstraps and `explain` ask, raw resources,
//! and what the fleet says.

mod apply;
mod backup;
mod calendar;
mod callers;
mod canaries;
mod certificates;
mod change;
mod check;
mod door;
mod events;
mod guard;
mod how;
mod instances;
mod loads;
mod metrics;
mod overrides;
mod page;
mod plan;
mod protection;
mod proxies;
mod raw;
mod revisions;
mod rollout;
mod routes;
mod services;
mod tls;
mod traffic_state;

use std::{convert::Infallible, future::Future, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State as Extract},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
};
use prometheus::Registry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use self::{
    door::{Door, Limits},
    guard::{Guard, guard},
    routes::Routes,
};
pub use self::{
    events::places as places_for_listeners,
    protection::{Protection, TooOpen, anonymous},
    routes::{Entry, Table},
};
use crate::{
    access::{Need, Role, TokenFile},
    bootstrap::Member,
    callers::owner::Callers,
    catalog::{Catalog, Refusal, Revision, Waiting},
    census::owner::Census,
    clock,
    compile::{Encoder, FilterCode},
    explain::{self, Question},
    fleet::Fleet,
    flood::Flood,
    health::owner::Health,
    load_reports::LoadReports,
    mesh::{Defaults, MeshProblem},
    pki::authority::Authority,
    publish::Publisher,
    raw::{FileProblem, RawResources, RawState},
    redact::Redactor,
    registry::owner::Registry as Instances,
    store::{Store, StoreError},
};

/// What handlers may read.
#[derive(Clone)]
pub struct State {
    /// The mesh in force.
    pub revisions: watch::Receiver<Arc<Revision>>,
    /// The refusal outstanding.
    pub refusal: watch::Receiver<Option<Arc<Refusal>>>,
    /// Files that wait for the end of a freeze.
    pub waiting: watch::Receiver<Option<Arc<Waiting>>>,
    /// Its history, and where it is changed.
    pub catalog: Arc<Catalog>,
    /// What connected Envoys said.
    pub fleet: Arc<Fleet>,
    /// What load they reported.
    pub loads: Arc<LoadReports>,
    /// What is known of endpoints' health.
    pub health: Arc<Health>,
    /// Instances that registered.
    pub instances: Arc<Instances>,
    /// Among how many proxies limits are divided.
    pub census: Arc<Census>,
    /// What callers without a proxy share.
    pub callers: Arc<Callers>,
    /// Who issues certificates.
    pub authority: Arc<Authority>,
    /// Every metric of this process.
    pub registry: Registry,
    /// What holds where a mesh file is silent.
    pub defaults: Defaults,
    /// Encodes resources.
    pub encoder: Arc<Encoder>,
    /// Places of those who ask for a plan.
    pub plans: Arc<Semaphore>,
    /// Places of those who listen to events.
    pub listeners: Arc<Semaphore>,
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
    /// What Envoys are sent.
    pub publisher: Arc<Publisher>,
    /// Where all of it is kept.
    pub store: Arc<dyn Store>,
    /// The API's tokens.
    pub tokens: TokenFile,
    /// What is wrong with the files of `--resources`.
    pub resource_problems: watch::Receiver<Arc<Vec<FileProblem>>>,
}

/// Places of those who ask for a plan at once.
pub fn places_for_plans() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(plan::PLANS_MAX))
}

/// Everything that is served, each with the role that it needs.
fn routes() -> Routes {
    let open = Need::Nothing;
    let viewer = Need::Role(Role::Viewer);
    let operator = Need::Role(Role::Operator);
    let admin = Need::Role(Role::Admin);
    Routes::default()
        .get("/healthz", open, || async { "ok\n" })
        // The ports open only after the first mesh is loaded: who can ask, finds it ready.
        .get("/readyz", open, || async { "ready\n" })
        .get("/filter/mumbai_mesh.wasm", viewer, filter)
        .get("/services", viewer, services::services)
        .get("/api/v1/services", viewer, services::services)
        .get("/api/v1/revisions", viewer, revisions::revisions)
        .get("/api/v1/revisions/{revision}", viewer, revisions::one)
        .get("/api/v1/revisions/{revision}/diff", viewer, apply::diff)
        .get("/api/v1/canaries", viewer, canaries::list)
        .get("/api/v1/canaries/{service}", viewer, canaries::one)
        .get("/api/v1/overrides", viewer, overrides::list)
        .get("/api/v1/proxies", viewer, proxies::proxies)
        .get("/api/v1/proxies/{node}/config", viewer, proxies::config)
        .get("/api/v1/loads", viewer, loads::loads)
        .get("/api/v1/certificates", viewer, certificates::certificates)
        .get("/api/v1/check", viewer, check::checked)
        .get("/api/v1/events", viewer, events::events)
        .get("/metrics", viewer, metrics::metrics)
        .get("/api/v1/bootstrap/{name}", viewer, member)
        .get("/api/v1/explain", viewer, explain_request)
        .get("/api/v1/traffic-state", viewer, traffic_state::state)
        .get("/api/v1/calendar/next", viewer, calendar::next)
        .get("/api/v1/calendar/month", viewer, calendar::month)
        .get("/api/v1/resources", viewer, raw::list)
        .write(
            "/api/v1/backup",
            Need::Role(Role::Admin),
            backup::backup,
            backup::BODY_BYTES_MAX,
        )
        .get("/api/v1/instances", viewer, instances::list)
        .write(
            "/api/v1/instances",
            operator,
            instances::register,
            instances::BODY_BYTES_MAX,
        )
        .write(
            "/api/v1/instances:release",
            operator,
            instances::release,
            instances::BODY_BYTES_MAX,
        )
        .get(instances::ONE, viewer, instances::one)
        .put(
            instances::ONE,
            operator,
            instances::put,
            instances::BODY_BYTES_MAX,
        )
        .delete(instances::ONE, operator, instances::deregister)
        .write(instances::DRAIN, operator, instances::drain, 0)
        .beat(instances::HEARTBEAT, operator, instances::heartbeat, 0)
        .beat(
            "/api/v1/select",
            operator,
            callers::select,
            callers::SELECT_BYTES_MAX,
        )
        .beat(
            "/api/v1/results",
            operator,
            callers::results,
            callers::RESULTS_BYTES_MAX,
        )
        .ask("/api/v1/plan", viewer, plan::planned, plan::BODY_BYTES_MAX)
        .write(
            "/api/v1/apply",
            operator,
            apply::apply,
            plan::BODY_BYTES_MAX,
        )
        .write(
            "/api/v1/revisions/{revision}/rollback",
            operator,
            apply::rollback,
            canaries::BODY_BYTES_MAX,
        )
        .write(
            "/api/v1/canaries/{service}/{verb}",
            operator,
            canaries::act,
            canaries::BODY_BYTES_MAX,
        )
        .write(
            "/api/v1/services/{service}/override",
            operator,
            overrides::begin,
            canaries::BODY_BYTES_MAX,
        )
        .write(
            "/api/v1/services/{service}/override/end",
            operator,
            overrides::end,
            canaries::BODY_BYTES_MAX,
        )
        .write(
            "/api/v1/resources:apply",
            operator,
            raw::apply,
            raw::BODY_BYTES_MAX,
        )
        .write(
            "/api/v1/certificates/{name}/export",
            admin,
            certificates::export,
            certificates::EXPORT_BYTES_MAX,
        )
}

/// Everything that is served.
pub fn table() -> Table {
    routes().into_parts().1
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: State,
    protection: Arc<Protection>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (router, table) = routes().into_parts();
    let before = Guard {
        access: Arc::clone(&protection.access),
        audit: Arc::clone(&protection.audit),
        table,
        revisions: state.revisions.clone(),
        raw: state.raw.clone(),
        refused: protection.refused.clone(),
        flood: Flood::default(),
    };
    let router = router
        .fallback(|| async { problem(StatusCode::NOT_FOUND, &"no such path") })
        .layer(middleware::from_fn_with_state(Arc::new(before), guard))
        .with_state(state);
    let door = Door {
        tcp: listener,
        tls: protection.tls.as_ref().map(tls::ApiTls::config),
        limits: Limits {
            known: protection.connections,
            ..Limits::default()
        },
    };
    door.serve(router, shutdown).await;
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
        StoreError::Moved { .. }
        | StoreError::InUse(_)
        | StoreError::Damaged { .. }
        | StoreError::Broken { .. } => (StatusCode::SERVICE_UNAVAILABLE, "nothing was applied: "),
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

/// A problem of a mesh file.
fn mesh_problem(MeshProblem { place, problem }: &MeshProblem) -> Value {
    json!({
        "place": place,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    })
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
    let sizes = Arc::clone(&state.census.sizes().borrow());
    match explain::explain_among(&mesh, &question, &sizes, clock::now()) {
        Ok(mut explanation) => {
            // What is in force is explained already; who laid it over what is written is not.
            if let Some(service) = &explanation.service {
                let operation = canaries::sentence(&state, service);
                explanation.reasons.extend(operation);
            }
            Json(explanation).into_response()
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &error),
    }
}
