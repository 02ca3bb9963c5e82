//! What outlives the process, opened as a server starts.

use std::sync::Arc;

use anyhow::Context;
use policy::time::WallTime;
use tokio::sync::watch;
use tracing::{info, warn};

use super::BadMesh;
use crate::{
    catalog::{Catalog, Revision},
    compile::Encoder,
    mesh::CertificateDays,
    metrics::Metrics,
    pki::{self, Folder, authority::Authority},
    private_file,
    raw::{self, RawResources},
    registry::{
        self,
        owner::{Inbox, Registry},
    },
    settings::Settings,
    source::{self, StartError},
    store::{self, Embedded, Etcd, Store},
};

/// The etcd that several servers share, or the one of the state dir.
pub(super) fn store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    let state_dir = &settings.state_dir;
    let of_dir = || format!("--state-dir {}", state_dir.display());
    let Some(access) = &settings.etcd else {
        return Ok(Arc::new(Embedded::open(state_dir).with_context(of_dir)?));
    };
    if access.tls.ca.is_none() && !access.address.is_loopback() {
        warn!(
            "--store without --store-ca: what is kept, private keys among it, crosses the network in plain text"
        );
    }
    // For the certificate authority's folder.
    private_file::make_folder(state_dir).with_context(of_dir)?;
    if let Some(lost) = Embedded::lost_before_it_moved(state_dir) {
        return Err(anyhow::Error::new(lost).context(of_dir()));
    }
    let etcd = Etcd::open(access).context("--store")?;
    if Embedded::is_there(state_dir) {
        let alone = Embedded::open(state_dir).with_context(of_dir)?;
        if store::move_into(&alone, &etcd).context("--store")? {
            info!("what the state dir's store held moved into the etcd");
        } else {
            warn!("the etcd holds something already: the state dir's own store is not used");
        }
        drop(alone);
        Embedded::set_aside(state_dir).with_context(of_dir)?;
    }
    Ok(Arc::new(etcd))
}

/// The mesh to serve.
pub(super) fn mesh(settings: &Settings, store: &Arc<dyn Store>) -> anyhow::Result<source::Start> {
    source::start(&settings.config, &settings.defaults, store).map_err(|error| match error {
        StartError::Mesh(problems) => {
            source::report_fatal(settings.config.path(), &problems);
            BadMesh.into()
        }
        StartError::Store(error) => anyhow::Error::new(error).context("the store"),
    })
}

/// Raw resources.
pub(super) fn resources(
    settings: &Settings,
    store: Arc<dyn Store>,
    encoder: &Arc<Encoder>,
    revisions: watch::Receiver<Arc<Revision>>,
) -> anyhow::Result<RawResources> {
    let first_look = match &settings.resources {
        Some(folder) => Some(
            raw::folder::look(folder)
                .map_err(|error| anyhow::anyhow!("--resources {}: {error}", folder.display()))?,
        ),
        None => None,
    };
    RawResources::open(store, first_look, Arc::clone(encoder), revisions).context("the store")
}

/// Instances that registered, and the mesh with them.
pub(super) fn instances(
    store: &Arc<dyn Store>,
    catalog: &Catalog,
    metrics: &prometheus::Registry,
) -> anyhow::Result<(Arc<Registry>, Inbox)> {
    let heartbeats = registry::metrics::heartbeats()?;
    metrics.register(Box::new(heartbeats.clone()))?;
    let base = Arc::clone(&catalog.revisions().borrow());
    let (registry, inbox) =
        Registry::open(Arc::clone(store), base, heartbeats).context("the store")?;
    let registry = Arc::new(registry);
    let known = Arc::clone(&registry);
    catalog.know_instances(Box::new(move |mesh| known.over(mesh)));
    let counts = registry::metrics::RegistryMetrics::new(Arc::clone(&registry))?;
    metrics.register(Box::new(counts))?;
    Ok((registry, inbox))
}

/// Keys and certificates: the authority of the state dir, which is that of all servers where they share a store.
/// `said` is what the mesh says of their lives.
pub(super) fn authority(
    settings: &Settings,
    store: &dyn Store,
    said: CertificateDays,
    metrics: Arc<Metrics>,
    now: WallTime,
) -> anyhow::Result<Arc<Authority>> {
    let folder = Folder::of(&settings.state_dir, settings.ca_passphrase.clone());
    if let Some(access) = &settings.etcd {
        let life = settings.certificates.ca(said.ca);
        pki::share(store, &access.secret, &folder, life, now)?;
    }
    let lives = settings.certificates;
    Ok(Arc::new(Authority::open(
        folder, lives, said, metrics, now,
    )?))
}
