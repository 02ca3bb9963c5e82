//! Owner of the current [`Snapshot`]: the newest revision as every node would see it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use tracing::{error, info};

use crate::{
    catalog::Revision,
    compile::{self, Encoder, FilterCode, NodeSpec},
    resource::{NodeKey, View, Views},
};

/// One revision, ready to be served. Views are made when first asked for and shared by all nodes
/// with the same [`NodeSpec`]: ten thousand sidecars of one service cost one.
pub struct Snapshot {
    revision: Arc<Revision>,
    code: Arc<FilterCode>,
    encoder: Arc<Encoder>,
    views: Mutex<HashMap<NodeSpec, Arc<View>>>,
}

/// Distinct node specs kept; beyond it views are still right, only not shared. A node chooses parts
/// of its spec, so what it says must not fill our memory.
const VIEWS_MAX: usize = 20_000;

impl Snapshot {
    fn new(revision: Arc<Revision>, code: Arc<FilterCode>, encoder: Arc<Encoder>) -> Self {
        Self {
            revision,
            code,
            encoder,
            views: Mutex::default(),
        }
    }

    /// The revision served.
    pub fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    fn compile(&self, spec: &NodeSpec) -> View {
        let mut resources = Vec::new();
        for draft in compile::compile(&self.revision.mesh, spec, &self.code) {
            let kind = draft.kind;
            match self.encoder.encode(draft) {
                Ok(resource) => resources.push((kind, resource)),
                Err(problem) => error!(%problem, "resource left out"),
            }
        }
        View::new(resources)
    }
}

impl Views for Snapshot {
    fn revision(&self) -> u64 {
        self.revision.number
    }

    fn view(&self, node: &NodeKey) -> Arc<View> {
        let spec = NodeSpec::of(&self.revision.mesh, node);
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(&spec) {
            return Arc::clone(view);
        }
        let view = Arc::new(self.compile(&spec));
        if views.len() < VIEWS_MAX {
            views.insert(spec, Arc::clone(&view));
        }
        view
    }
}

/// Publishes each revision of the catalog until its sender is gone.
pub async fn follow(
    mut revisions: watch::Receiver<Arc<Revision>>,
    code: Arc<FilterCode>,
    encoder: Arc<Encoder>,
    snapshots: watch::Sender<Arc<Snapshot>>,
) {
    while revisions.changed().await.is_ok() {
        let revision = Arc::clone(&revisions.borrow_and_update());
        info!(revision = revision.number, "published");
        encoder.forget_unused();
        snapshots.send_replace(Arc::new(Snapshot::new(
            revision,
            Arc::clone(&code),
            Arc::clone(&encoder),
        )));
    }
}

/// The first snapshot and the channel on which later ones appear.
pub fn channel(
    revision: Arc<Revision>,
    code: &Arc<FilterCode>,
    encoder: &Arc<Encoder>,
) -> watch::Sender<Arc<Snapshot>> {
    let first = Snapshot::new(revision, Arc::clone(code), Arc::clone(encoder));
    watch::Sender::new(Arc::new(first))
}
