//! Wiring: settings in, bound addresses and a running server out. Tests and `main` use this door.

mod kept;
mod restored;

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use prometheus::{Registry, process_collector::ProcessCollector};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
};
use tracing::{info, warn};

pub use self::restored::Restored;
use crate::{
    access::TokenFile,
    api,
    callers::owner::Callers,
    catalog::{Catalog, Revision},
    census::owner::Census,
    clock,
    compile::{Encoder, FilterCode},
    fleet::Fleet,
    grpc,
    health::owner::Health,
    load_reports::{Limits, LoadReports},
    metrics::Metrics,
    pki::authority::Authority,
    publish::{self, Publisher},
    raw,
    redact::Redactor,
    registry,
    replicas::owner::Replicas,
    settings::{Settings, XdsTls},
    source::{self, ConfigMetrics},
    store::{self, StoreMetrics},
};

/// Thousands of Envoys may reconnect in one second; a short backlog would make each wait for a
/// retransmission.
const BACKLOG: u32 = 4096;

/// Once asked to stop, a server ends within this time, whoever still talks to it.
const END_MAX: Duration = Duration::from_secs(3);

/// A server whose ports are open and whose mesh is loaded.
pub struct Bound {
    /// Where xDS is served.
    pub xds: SocketAddr,
    /// Where the API is served.
    pub api: SocketAddr,
    xds_listener: TcpListener,
    api_listener: TcpListener,
    state: api::State,
    protection: Arc<api::Protection>,
    authority: Arc<Authority>,
    tls: Option<Arc<grpc::Tls>>,
    publisher: Arc<Publisher>,
    encoder: Arc<Encoder>,
    redactor: Arc<Redactor>,
    census: Arc<Census>,
    replicas: Arc<Replicas>,
    catalog: Arc<Catalog>,
    wishes: registry::owner::Inbox,
    follower: source::Follower,
    resources_folder: Option<PathBuf>,
}

/// The mesh file was refused and no earlier good one is known: exit code 65.
#[derive(Debug, thiserror::Error)]
#[error("the mesh file is refused and no earlier good revision is known")]
pub struct BadMesh;

/// An address that others could reach, where Envoys would be served without being asked who they are:
/// exit code 64.
#[derive(Debug, thiserror::Error)]
#[error(
    "--xds-listen {0}: without certificates (--xds-tls off) only loopback addresses are served; \
     leave --xds-tls out, and give each Envoy a certificate with `mumbai-mesh bootstrap NAME \
     --state-dir DIR`"
)]
pub struct NotLoopback(SocketAddr);

/// Loads the mesh and opens the ports.
///
/// # Errors
/// [`BadMesh`]; a port that is taken; a filter that cannot be read; an address beyond loopback.
pub fn build(settings: &Settings) -> anyhow::Result<Bound> {
    let with_tls = is_with_tls(settings.xds_listen, settings.xds_tls)?;
    let anonymous = api::anonymous(settings.api_listen, settings.api.anonymous)?;
    let code = Arc::new(read_filter(&settings.filter)?);
    let store = kept::store(settings)?;
    let now = clock::now();
    let start = kept::mesh(settings, &store)?;
    let catalog = Arc::clone(&start.catalog);
    let encoder = Arc::new(Encoder::new().context("Envoy's descriptors in this binary")?);
    let redactor = Arc::new(Redactor::new(encoder.descriptors()));
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let (instances, wishes) = kept::instances(&store, &catalog, &registry)?;
    // The mesh with all instances.
    let revisions = instances.revisions();
    let resources = kept::resources(settings, Arc::clone(&store), &encoder, revisions.clone())?;
    let resources = Arc::new(resources);
    let metrics = Arc::new(Metrics::new(&registry).context("the metrics")?);
    registry.register(Box::new(StoreMetrics::new(Arc::clone(&store))?))?;
    let protection = Arc::new(api::Protection::open(settings, anonymous, &registry)?);
    let config_metrics = ConfigMetrics::new(&registry).context("the metrics")?;
    let said = revisions.borrow().mesh.certificates;
    let authority = kept::authority(settings, &*store, said, Arc::clone(&metrics), now)?;
    let tls = tls(with_tls, &authority, &revisions)?;
    let mesh = Arc::clone(&revisions.borrow().mesh);
    let census = Census::open(Arc::clone(&store), settings.pace, &mesh);
    let census = Arc::new(census.context("the numbers of proxies in the store")?);
    let replicas = Replicas::open(Arc::clone(&store)).context("the servers in the store")?;
    let replicas = Arc::new(replicas);
    let publisher = Arc::new(Publisher::new(
        Arc::clone(&revisions.borrow()),
        &Arc::clone(&census.sizes().borrow()),
        Arc::clone(&resources.states().borrow()),
        Arc::clone(&code),
        Arc::clone(&encoder),
        Arc::clone(&authority),
        Arc::clone(&metrics),
    ));
    let health = Health::new(mesh, settings.max_streams, Arc::clone(&metrics), now);
    let xds_listener = listen("--xds-listen", settings.xds_listen)?;
    let api_listener = listen("--api-listen", settings.api_listen)?;
    let state = api::State {
        revisions,
        refusal: catalog.refusal(),
        waiting: catalog.waiting(),
        catalog: Arc::clone(&catalog),
        authority: Arc::clone(&authority),
        registry,
        loads: Arc::new(LoadReports::new(
            settings.load_report_interval,
            Limits::of(settings.max_streams),
        )),
        callers: Arc::new(Callers::new(instances.revisions(), health.unhealthy())),
        health: Arc::new(health),
        census: Arc::clone(&census),
        replicas: Arc::clone(&replicas),
        instances,
        fleet: Arc::new(Fleet::new(metrics, settings.max_streams)),
        defaults: settings.defaults.clone(),
        encoder: Arc::clone(&encoder),
        plans: api::places_for_plans(),
        listeners: api::places_for_listeners(),
        code,
        redactor: Arc::clone(&redactor),
        raw: resources.states(),
        published: publisher.published(),
        publisher: Arc::clone(&publisher),
        resource_problems: resources.problems(),
        store,
        tokens: TokenFile::of(&settings.state_dir),
        resources,
    };
    let defaults = settings.defaults.clone();
    Ok(Bound {
        xds: xds_listener.local_addr()?,
        api: api_listener.local_addr()?,
        xds_listener,
        api_listener,
        state,
        protection,
        authority,
        tls,
        publisher,
        encoder,
        redactor,
        census,
        replicas,
        catalog,
        wishes,
        follower: source::Follower::new(settings.config.path(), defaults, config_metrics, start),
        resources_folder: settings.resources.clone(),
    })
}

/// Whether Envoys must show certificates: wherever others could reach the port.
fn is_with_tls(xds: SocketAddr, xds_tls: XdsTls) -> Result<bool, NotLoopback> {
    let with_tls = match xds_tls {
        XdsTls::On => true,
        XdsTls::Auto => !xds.ip().is_loopback(),
        XdsTls::Off if xds.ip().is_loopback() => false,
        XdsTls::Off => return Err(NotLoopback(xds)),
    };
    if with_tls {
        info!("xDS by TLS 1.3, for Envoys that show a certificate of this mesh");
    } else {
        warn!(
            "DEVELOPMENT MODE: plaintext and unauthenticated, on loopback addresses only; whoever reaches \
             the xDS port may have any service's private key"
        );
    }
    Ok(with_tls)
}

fn tls(
    is_on: bool,
    authority: &Arc<Authority>,
    revisions: &watch::Receiver<Arc<Revision>>,
) -> anyhow::Result<Option<Arc<grpc::Tls>>> {
    let made = is_on.then(|| grpc::Tls::new(Arc::clone(authority), revisions.clone()));
    Ok(made.transpose()?.map(Arc::new))
}

fn read_filter(path: &Path) -> anyhow::Result<FilterCode> {
    let code = std::fs::read(path).with_context(|| {
        format!(
            "the filter {} cannot be read; build it with `cargo xtask wasm` or name it with --filter",
            path.display()
        )
    })?;
    Ok(FilterCode::new(code.into()))
}

fn listen(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().with_context(|| {
        format!("{flag} {address} cannot be opened (is another server running there?)")
    })
}

impl Bound {
    /// Serves until `shutdown` completes, then lets streams end.
    ///
    /// # Errors
    /// When a server fails while running.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (stop, stopped) = watch::channel(false);
        let until_stopped = || {
            let mut stopped = stopped.clone();
            async move {
                // An error means that the sender is gone, which is a stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            }
        };
        let fleet = Arc::clone(&self.state.fleet);
        let resources = Arc::clone(&self.state.resources);
        let following_resources = async {
            match self.resources_folder {
                Some(folder) => raw::folder::follow(folder, resources).await,
                None => std::future::pending().await,
            }
        };
        let (catalog, raw) = (self.catalog, Arc::clone(&self.state.resources));
        let registering = {
            let (instances, base) = (Arc::clone(&self.state.instances), catalog.revisions());
            instances.run(self.wishes, base)
        };
        let trying = store::keep_trying(Arc::clone(&self.state.store));
        let following_store = async { tokio::join!(catalog.follow(), raw.follow(), trying) };
        let sources = publish::Sources {
            revisions: self.state.revisions.clone(),
            unhealthy: self.state.health.unhealthy(),
            sizes: self.census.sizes(),
            raw: self.state.raw.clone(),
            renewed: self.authority.renewed(),
        };
        let counting = {
            let (census, revisions) = (self.census, self.state.revisions.clone());
            census.run(revisions, Arc::clone(&self.publisher))
        };
        let answering = self
            .replicas
            .run(Arc::clone(&self.publisher), Arc::clone(&fleet));
        let loads = Arc::clone(&self.state.loads);
        let health = Arc::clone(&self.state.health);
        let publishing = publish::follow(sources, Arc::clone(&self.publisher));
        let checking = health.run(self.state.revisions.clone());
        let discovery = grpc::Discovery::new(
            self.publisher,
            fleet,
            self.redactor,
            loads,
            Arc::clone(&health),
            self.encoder,
            self.tls,
        );
        let xds = Box::pin(grpc::serve(self.xds_listener, discovery, until_stopped()));
        let protection = Arc::clone(&self.protection);
        let api = api::serve(
            self.api_listener,
            self.state,
            self.protection,
            until_stopped(),
        );
        let stopping = async {
            shutdown.await;
            info!("stopping");
            stop.send_replace(true);
        };
        let servers = async { tokio::try_join!(xds, api) };
        tokio::pin!(servers);
        tokio::select! {
            result = &mut servers => return result.map(|_| ()),
            () = Box::pin(self.follower.run()) => {}
            () = following_resources => {}
            _ = following_store => {}
            () = Box::pin(registering) => {}
            () = publishing => {}
            () = Box::pin(counting) => {}
            () = Box::pin(answering) => {}
            () = checking => {}
            () = self.authority.run() => {}
            () = protection.follow() => {}
            () = stopping => {}
        }
        let Ok(result) = tokio::time::timeout(END_MAX, servers).await else {
            warn!("the server ends although a client of the API has not let go");
            return Ok(());
        };
        result.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_could_come_from_elsewhere_must_show_a_certificate() {
        let demanded = |xds: &str, xds_tls| is_with_tls(xds.parse().unwrap(), xds_tls);
        let (near, far) = ("127.0.0.1:1", "0.0.0.0:1");
        assert!(matches!(demanded(near, XdsTls::Auto), Ok(false)));
        assert!(matches!(demanded(near, XdsTls::On), Ok(true)));
        assert!(matches!(demanded(near, XdsTls::Off), Ok(false)));
        assert!(matches!(demanded(far, XdsTls::Auto), Ok(true)));
        assert!(matches!(demanded("[::]:1", XdsTls::On), Ok(true)));
        assert!(matches!(demanded(far, XdsTls::Off), Err(NotLoopback(_))));
    }
}
