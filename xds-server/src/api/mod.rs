//! The HTTP API, as far as it stands: health, the filter, what bootstraps and `explain` ask, raw resources,
//! and what the fleet says.

mod answer;
mod apply;
mod asked;
mod backup;
mod calendar;
mod callers;
mod canaries;
mod certificates;
mod change;
mod check;
mod door;
mod events;
mod files;
mod guard;
mod held;
mod how;
mod instances;
mod json;
mod loads;
mod metrics;
mod openapi;
mod operation;
mod overrides;
mod plan;
mod problems;
mod protection;
mod proxies;
mod questions;
mod raw;
mod revisions;
mod rollout;
mod routes;
mod served;
mod services;
mod tls;
mod traffic_state;

use std::{convert::Infallible, future::Future, sync::Arc};

use axum::{
    http::{StatusCode, header},
    middleware,
    response::IntoResponse,
};
use prometheus::Registry;
use serde::Serialize;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use self::{
    answer::Answered,
    door::{Door, Limits},
    guard::{Guard, guard},
    problems::{problem, unkept},
    served::routes,
};
pub use self::{
    events::places as places_for_listeners,
    openapi::document,
    protection::{Protection, TooOpen, anonymous},
    routes::{Entry, Table},
};
use crate::{
    access::TokenFile,
    callers::owner::Callers,
    catalog::{Catalog, Refusal, Revision, Waiting},
    census::owner::Census,
    compile::{Encoder, FilterCode},
    fleet::Fleet,
    flood::Flood,
    health::owner::Health,
    load_reports::LoadReports,
    mesh::Defaults,
    pki::authority::Authority,
    publish::Publisher,
    raw::{FileProblem, RawResources, RawState},
    redact::Redactor,
    registry::owner::Registry as Instances,
    replicas::owner::Replicas,
    store::Store,
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
    /// What the proxies of other servers make of a change.
    pub replicas: Arc<Replicas>,
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
        .method_not_allowed_fallback(|| async {
            let said = "that path is not called so; /api/v1/openapi.json has what there is";
            problem(StatusCode::METHOD_NOT_ALLOWED, &said)
        })
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
async fn made_apart<T: Serialize>(make: impl FnOnce() -> T + Send + 'static) -> Answered<T> {
    let never = StatusCode::INTERNAL_SERVER_ERROR;
    tried_apart(never, || Ok::<T, Infallible>(make())).await
}

/// The same of an answer that there may not be: then the status, and why.
async fn tried_apart<T: Serialize, E: ToString + Send + 'static>(
    none: StatusCode,
    make: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Answered<T> {
    let make = || make().map(|made| serde_json::to_vec(&made));
    let json = [(header::CONTENT_TYPE, "application/json")];
    match tokio::task::spawn_blocking(make).await {
        Ok(Ok(Ok(body))) => Answered::made((json, body).into_response()),
        Ok(Ok(Err(error))) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
        Ok(Err(why)) => problem(none, &why).into(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    }
}
