//! The streams of single types that one node has open, and how far each has told the newest state.
//!
//! On ADS one stream keeps the order between types by itself. On separate streams the server does what
//! can be done: listeners and routes wait until the node's streams of clusters, endpoints and secrets
//! have accepted the same state, and those take nothing away before listeners and routes have accepted
//! it. What a client does between two streams, such as warming a new cluster, no server can see.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use crate::{
    discovery::{Name, Others, Session},
    resource::{NodeKey, ResourceType},
};

/// By node.
#[derive(Default)]
pub(super) struct Peers {
    nodes: Mutex<HashMap<NodeKey, Weak<Node>>>,
}

struct Node {
    streams: Mutex<HashMap<u64, Progress>>,
    changed: watch::Sender<()>,
}

/// How far one stream is: numbers of updates.
struct Progress {
    kind: ResourceType,
    /// What others need is accepted.
    made: u64,
    /// Nothing of the state before is used any more.
    used: u64,
    /// Clusters that were rejected, and of which the node has no version.
    missing: Arc<[Name]>,
    /// Something is held back.
    holding: bool,
}

/// One stream among its node's.
pub(super) struct Peer {
    kind: ResourceType,
    number: u64,
    key: NodeKey,
    node: Arc<Node>,
    changes: WatchStream<()>,
    peers: Arc<Peers>,
}

impl Peers {
    /// A stream of one type joins; it leaves when its end is dropped. `update` is the state with which it
    /// begins.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &NodeKey,
        number: u64,
        kind: ResourceType,
        update: u64,
    ) -> Peer {
        let mut nodes = lock(&self.nodes);
        let known = nodes.get(key).and_then(Weak::upgrade);
        let node = known.unwrap_or_else(|| {
            let node = Arc::new(Node {
                streams: Mutex::default(),
                changed: watch::Sender::new(()),
            });
            nodes.insert(key.clone(), Arc::downgrade(&node));
            node
        });
        let progress = Progress {
            kind,
            made: update,
            used: update,
            missing: Arc::default(),
            holding: false,
        };
        lock(&node.streams).insert(number, progress);
        Peer {
            kind,
            number,
            key: key.clone(),
            changes: WatchStream::from_changes(node.changed.subscribe()),
            node,
            peers: Arc::clone(self),
        }
    }
}

impl Peer {
    /// Ready when another stream of the node went on.
    pub(super) fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.changes.poll_next_unpin(context).map(|_| ())
    }

    /// What the node's other streams have done about an update.
    pub(super) fn others(&self, update: u64) -> Others {
        let streams = lock(&self.node.streams);
        let others = || streams.iter().filter(|(number, _)| **number != self.number);
        let makes = self.kind.is_named_by_others();
        Others {
            made: makes
                || others()
                    .all(|(_, other)| !other.kind.is_named_by_others() || other.made >= update),
            used: !makes
                || others()
                    .all(|(_, other)| other.kind.is_named_by_others() || other.used >= update),
            missing: others()
                .find(|(_, other)| !other.missing.is_empty())
                .map(|(_, other)| Arc::clone(&other.missing))
                .unwrap_or_default(),
            holding: others().any(|(_, other)| other.holding),
        }
    }

    /// Tells the others how far this one is with an update.
    pub(super) fn report(&self, update: u64, session: &Session) {
        let mut streams = lock(&self.node.streams);
        let Some(progress) = streams.get_mut(&self.number) else {
            return;
        };
        let before = (progress.made, progress.used);
        let missing: Arc<[Name]> = session.missing().cloned().collect();
        let told = (&progress.missing, progress.holding) == (&missing, session.is_holding());
        progress.missing = missing;
        progress.holding = session.is_holding();
        if session.has_made() {
            progress.made = update;
        }
        if session.has_used() {
            progress.used = update;
        }
        let went_on = !told || before != (progress.made, progress.used);
        drop(streams);
        if went_on {
            self.node.changed.send_replace(());
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut nodes = lock(&self.peers.nodes);
        let mut streams = lock(&self.node.streams);
        streams.remove(&self.number);
        if streams.is_empty() {
            nodes.remove(&self.key);
        }
        drop(streams);
        self.node.changed.send_replace(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
