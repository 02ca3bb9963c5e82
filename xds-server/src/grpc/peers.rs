//! The streams of single types that one node has open, and how far each has told the newest state.
//!
//! On ADS one stream keeps the order between types by itself. On separate streams the server does what
//! can be done: listeners and routes wait until the node's streams of clusters, endpoints and secrets
//! have accepted the same state, and until the endpoints of each new cluster were answered for on a stream
//! that is perhaps opened for them; and those take nothing away before listeners and routes have accepted
//! it. An Envoy has a stream for each cluster's endpoints, so there may be thousands.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use crate::{
    discovery::{Endpoints, Name, Others, Position, Session},
    resource::{NodeKey, ResourceType, View},
};

use ResourceType::{Cluster, ClusterLoadAssignment};

/// By node.
#[derive(Default)]
pub(super) struct Peers {
    nodes: Mutex<HashMap<NodeKey, Weak<Node>>>,
}

struct Node {
    streams: Mutex<Streams>,
    changed: watch::Sender<()>,
}

/// By number.
#[derive(Default)]
struct Streams {
    all: HashMap<u64, Progress>,
    /// How often new clusters came that await their endpoints.
    round: u64,
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
    /// New clusters that the client was told and whose endpoints no stream has answered for.
    awaited: Vec<Name>,
    /// What the client has of endpoints, as far as it has answered.
    endpoints: Option<Arc<Position>>,
    /// The newest round of which it has told again what it had told before.
    round: u64,
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
            awaited: Vec::new(),
            endpoints: None,
            round: 0,
        };
        let mut streams = lock(&node.streams);
        let round = streams.round;
        streams.all.insert(number, Progress { round, ..progress });
        drop(streams);
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

    /// What the node's other streams have done about an update, which is this view.
    pub(super) fn others(&self, update: u64, view: &View) -> Others {
        let is_there = |name: &Name| {
            let kinds = [Cluster, ClusterLoadAssignment];
            kinds.iter().all(|kind| view.get(*kind, name).is_some())
        };
        let streams = lock(&self.node.streams);
        let others = || {
            let streams = streams.all.iter();
            streams.filter(|(number, _)| **number != self.number)
        };
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
            endpoints: match streams.all.get(&self.number) {
                _ if !others().any(|(_, other)| other.kind == ClusterLoadAssignment) => {
                    Endpoints::NotThere
                }
                Some(own) if own.awaited.iter().any(is_there) => Endpoints::Awaited,
                _ => Endpoints::Answered,
            },
        }
    }

    /// Tells the others how far this one is with an update.
    pub(super) fn report(&self, update: u64, session: &mut Session) {
        let node = Arc::clone(&self.node);
        let mut streams = lock(&node.streams);
        let slowest = slowest(&streams);
        let mut went_on = self.note_endpoints(&mut streams, session);
        let Some(progress) = streams.all.get_mut(&self.number) else {
            return;
        };
        let missing: Arc<[Name]> = session.missing().cloned().collect();
        went_on |= (&progress.missing, progress.holding) != (&missing, session.is_holding());
        progress.missing = missing;
        progress.holding = session.is_holding();
        if session.has_made() {
            progress.made = update;
        }
        if session.has_used() {
            progress.used = update;
        }
        // Who waits waits for all, so nobody need be woken by any but the last.
        went_on |= slowest != self::slowest(&streams);
        drop(streams);
        if went_on {
            node.changed.send_replace(());
        }
    }

    /// Endpoints that this stream has told and must tell again, since their cluster came anew: what its client had
    /// of them went with the cluster of that name that there was before. Only an answer to that counts, here or on
    /// a stream that is opened for it.
    pub(super) fn again(&self, session: &Session) -> Vec<Name> {
        let mut streams = lock(&self.node.streams);
        let Streams { all, round } = &mut *streams;
        match all.get_mut(&self.number) {
            Some(own) if self.kind == ClusterLoadAssignment && own.round < *round => {
                own.round = *round;
            }
            _ => return Vec::new(),
        }
        let awaited = all.values().flat_map(|one| &one.awaited);
        let mut again: Vec<Name> = awaited
            .filter(|name| session.has(ClusterLoadAssignment, name))
            .cloned()
            .collect();
        again.sort_unstable();
        again.dedup();
        again
    }

    /// Notes which new clusters await endpoints, and which endpoints are there. Whether somebody waits for that.
    fn note_endpoints(&self, streams: &mut Streams, session: &mut Session) -> bool {
        let Streams { all, round } = streams;
        let Some(own) = all.get_mut(&self.number) else {
            return false;
        };
        if self.kind == Cluster {
            let new = session.new_clusters();
            let is_new = !new.is_empty();
            *round += u64::from(is_new);
            own.awaited.extend(new);
            // One that is taken away is no more waited for, and new when it comes again.
            own.awaited.retain(|name| session.has(Cluster, name));
            return is_new;
        }
        let Some(position) = session.answered_endpoints() else {
            return false;
        };
        let known = own.endpoints.replace(Arc::clone(position));
        let is_known = known.is_some_and(|known| Arc::ptr_eq(&known, position));
        if is_known || own.round < *round {
            return false;
        }
        let mut was_there = false;
        for other in all.values_mut().filter(|one| !one.awaited.is_empty()) {
            let before = other.awaited.len();
            other.awaited.retain(|name| !position.has(name));
            was_there |= other.awaited.len() < before;
        }
        was_there
    }

    /// What this stream awaited it waits for no longer.
    pub(super) fn give_up(&self) {
        if let Some(own) = lock(&self.node.streams).all.get_mut(&self.number) {
            own.awaited.clear();
        }
    }
}

/// How far the slowest stream is with what others need, and with what uses it.
fn slowest(streams: &Streams) -> (u64, u64) {
    let made = streams
        .all
        .values()
        .filter(|one| one.kind.is_named_by_others());
    let used = streams
        .all
        .values()
        .filter(|one| !one.kind.is_named_by_others());
    let (made, used) = (made.map(|one| one.made), used.map(|one| one.used));
    (
        made.min().unwrap_or(u64::MAX),
        used.min().unwrap_or(u64::MAX),
    )
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut nodes = lock(&self.peers.nodes);
        let mut streams = lock(&self.node.streams);
        streams.all.remove(&self.number);
        if streams.all.is_empty() {
            nodes.remove(&self.key);
        }
        drop(streams);
        self.node.changed.send_replace(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
