//! Owner of what every node is sent now: the newest revision, and a feed for each connected node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::{error, info};

use crate::{
    catalog::Revision,
    compile::{self, Encoder, FilterCode, NodeSpec},
    metrics::Metrics,
    resource::{NodeKey, View},
};

/// A first change is sent at once; those that follow within this time go together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Distinct node specs kept; beyond it views are still right, only not shared. A node chooses parts
/// of its spec, so what it says must not fill our memory.
const VIEWS_MAX: usize = 20_000;

/// What a node is sent from now on.
#[derive(Debug, Clone)]
pub struct Update {
    /// All of it.
    pub view: Arc<View>,
    /// Since when that holds.
    pub since: Instant,
    /// Counts up.
    pub number: u64,
}

/// One state of everything, ready to be served. Views are made when first asked for and shared by all
/// nodes with the same [`NodeSpec`]: ten thousand sidecars of one service cost one.
struct Snapshot {
    revision: Arc<Revision>,
    code: Arc<FilterCode>,
    encoder: Arc<Encoder>,
    views: HashMap<NodeSpec, Arc<View>>,
    /// Those of the snapshot before this one: what did not change is taken from there.
    before: HashMap<NodeSpec, Arc<View>>,
}

impl Snapshot {
    fn view(&mut self, node: &NodeKey) -> Arc<View> {
        let spec = NodeSpec::of(&self.revision.mesh, node);
        if let Some(view) = self.views.get(&spec) {
            return Arc::clone(view);
        }
        let mut view = self.compile(&spec);
        if let Some(before) = self.before.get(&spec) {
            view.keep_unchanged(before);
        }
        let view = Arc::new(view);
        if self.views.len() < VIEWS_MAX {
            self.views.insert(spec, Arc::clone(&view));
        }
        view
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

/// A connected node: what it is sent, and by how many streams.
struct Feed {
    updates: watch::Sender<Update>,
    streams: usize,
}

struct State {
    snapshot: Snapshot,
    /// Of the newest update.
    number: u64,
    feeds: HashMap<NodeKey, Feed>,
}

/// What every node is sent now.
pub struct Publisher {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// Serves this revision.
    pub fn new(
        revision: Arc<Revision>,
        code: Arc<FilterCode>,
        encoder: Arc<Encoder>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.published(revision.number);
        let snapshot = Snapshot {
            revision,
            code,
            encoder,
            views: HashMap::new(),
            before: HashMap::new(),
        };
        Self {
            state: Mutex::new(State {
                snapshot,
                number: 0,
                feeds: HashMap::new(),
            }),
            metrics,
        }
    }

    /// Follows what a node is sent, until the subscription is dropped.
    pub fn subscribe(self: &Arc<Self>, node: NodeKey) -> Subscription {
        let mut state = self.lock();
        let State {
            snapshot,
            number,
            feeds,
        } = &mut *state;
        let feed = feeds.entry(node.clone()).or_insert_with(|| Feed {
            updates: watch::Sender::new(Update {
                view: snapshot.view(&node),
                since: Instant::now(),
                number: *number,
            }),
            streams: 0,
        });
        feed.streams += 1;
        Subscription {
            updates: feed.updates.subscribe(),
            node,
            publisher: Arc::clone(self),
        }
    }

    /// Puts a revision in force: every connected node whose view differs is told.
    fn publish(&self, revision: Arc<Revision>) {
        let mut state = self.lock();
        let State {
            snapshot,
            number,
            feeds,
        } = &mut *state;
        *number += 1;
        self.metrics.published(revision.number);
        snapshot.before = std::mem::take(&mut snapshot.views);
        snapshot.revision = revision;
        snapshot.encoder.forget_unused();
        let since = Instant::now();
        for (node, feed) in feeds {
            let view = snapshot.view(node);
            feed.updates.send_if_modified(|update| {
                let differs = !update.view.is_the_same_as(&view);
                if differs {
                    *update = Update {
                        view,
                        since,
                        number: *number,
                    };
                }
                differs
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's end of its node's feed.
pub struct Subscription {
    /// What the node is sent.
    pub updates: watch::Receiver<Update>,
    node: NodeKey,
    publisher: Arc<Publisher>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.publisher.lock();
        if let Some(feed) = state.feeds.get_mut(&self.node) {
            feed.streams -= 1;
            if feed.streams == 0 {
                state.feeds.remove(&self.node);
            }
        }
    }
}

/// Publishes each revision of the catalog until its sender is gone.
pub async fn follow(mut revisions: watch::Receiver<Arc<Revision>>, publisher: Arc<Publisher>) {
    let mut last: Option<Instant> = None;
    while revisions.changed().await.is_ok() {
        if let Some(last) = last {
            tokio::time::sleep_until(last + TOGETHER).await;
        }
        let revision = Arc::clone(&revisions.borrow_and_update());
        info!(revision = revision.number, "published");
        publisher.publish(revision);
        last = Some(Instant::now());
    }
}
