//! gRPC around the discovery core: ADS and the services of single types, one loop for all of them and
//! for both variants of the protocol.

mod client_status;
mod connection;
mod door;
mod expiry;
mod health;
mod health_discovery;
mod identity;
mod load_stats;
mod node;
mod notices;
mod open;
mod peers;
mod reflection;
mod reporters;
mod requests;
mod slow;
mod stream;
mod tls;
mod transport;
mod turns;

pub use door::service_names;
pub use tls::Tls;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::middleware::{from_fn_with_state, map_request};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info, warn};

use crate::{
    compile::Encoder, discovery::Memo, fleet::Fleet, health::owner::Health,
    load_reports::LoadReports, publish::Publisher, redact::Redactor,
};

/// Largest request read.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Connections beside those of streams, for people and health checks.
const SPARE_CONNECTIONS: usize = 64;
/// A client that connects must open a stream within this time, and say on it who it is within another.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A server that stops says so on each connection (GOAWAY), and ends its streams so much later: who comes back at
/// once then does it on another connection.
const GOAWAY_LEAD: Duration = Duration::from_millis(250);
/// And it ends so much after that, whoever has not let go.
const DRAIN: Duration = Duration::from_millis(1750);

/// What every stream shares.
pub struct Discovery {
    redactor: Arc<Redactor>,
    loads: Arc<LoadReports>,
    health: Arc<Health>,
    encoder: Arc<Encoder>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    memo: Arc<Memo>,
    readers: Arc<slow::Readers>,
    peers: Arc<peers::Peers>,
    /// None: plaintext, on loopback.
    tls: Option<Arc<Tls>>,
    expiries: Arc<expiry::Expiries>,
    notices: notices::Notices,
    /// Nobody is served anew.
    draining: CancellationToken,
    /// Streams end.
    stopping: CancellationToken,
    /// The same, for streams whose node is known: they are woken, and look.
    is_stopping: AtomicBool,
    /// Secret of this process, for fingerprints of what clients send.
    seed: u64,
}

impl Discovery {
    /// Serves what `publisher` publishes, and notes in `fleet` what comes of it.
    pub fn new(
        publisher: Arc<Publisher>,
        fleet: Arc<Fleet>,
        redactor: Arc<Redactor>,
        loads: Arc<LoadReports>,
        health: Arc<Health>,
        encoder: Arc<Encoder>,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self {
            redactor,
            loads,
            health,
            encoder,
            publisher,
            fleet,
            memo: Arc::default(),
            readers: Arc::default(),
            peers: Arc::default(),
            tls,
            expiries: Arc::default(),
            notices: notices::Notices::default(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            is_stopping: AtomicBool::new(false),
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
        }
    }

    /// Ends every stream.
    fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.stopping.cancel();
        self.publisher.wake();
    }
}

/// Serves discovery until `shutdown` completes; then every connection is told GOAWAY and every stream ends with
/// UNAVAILABLE, so that Envoys connect to another replica. That takes 2 s at most.
///
/// # Errors
/// When a service cannot be described.
pub async fn serve(
    listener: TcpListener,
    discovery: Discovery,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let discovery = Arc::new(discovery);
    let draining = discovery.draining.clone();
    let mut routes = Routes::default();
    let router = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = door::add_all(router, &discovery);
    let names: Vec<&'static str> = service_names()
        .chain([
            client_status::NAME,
            load_stats::NAME,
            health_discovery::NAME,
        ])
        .collect();
    let client_status = client_status::service(
        Arc::clone(&discovery.fleet),
        Arc::clone(&discovery.redactor),
    );
    let load_stats = load_stats::service(Arc::clone(&discovery));
    let health_discovery = health_discovery::service(Arc::clone(&discovery));
    let (health, health_service) = health::service(&names).await;
    let routes = routes
        .add_service(health_service)
        .add_service(client_status)
        .add_service(load_stats)
        .add_service(health_discovery)
        .add_service(reflection::v1(&names)?)
        .add_service(reflection::v1alpha(&names)?);
    let router = routes
        .into_axum_router()
        .fallback(door::not_served)
        .layer(from_fn_with_state(Arc::clone(&discovery), identity::guard))
        .layer(map_request(connection::used));
    // The publisher holds a snapshot already.
    health.serving().await;
    let serving = transport::serve(
        connection::incoming(listener, Arc::clone(&discovery)),
        router,
        async move {
            shutdown.await;
            health.not_serving().await;
            // When this returns, connections are told.
            draining.cancel();
        },
    );
    tokio::select! {
        () = serving => {}
        () = drain(&discovery) => {}
        () = slow::watch(&discovery) => {}
        () = discovery.expiries.watch(discovery.fleet.metrics()) => {}
    }
    Ok(())
}

/// Waits until the server stops, and for its streams to end.
async fn drain(discovery: &Discovery) {
    discovery.draining.cancelled().await;
    let streams = discovery.fleet.streams().len();
    info!(
        streams,
        "draining: no new streams; clients are told to go elsewhere"
    );
    tokio::time::sleep(GOAWAY_LEAD).await;
    discovery.stop();
    // A client that does not let go must not keep the process.
    tokio::time::sleep(DRAIN).await;
    let streams = discovery.fleet.streams().len();
    warn!(
        streams,
        "the server ends although not every connection has let go"
    );
}
