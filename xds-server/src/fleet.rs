//! Owner of what connected Envoys are and what they said to what they were sent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use policy::time::WallTime;
use serde::Serialize;

use crate::{
    discovery::{Status, Variant},
    resource::{NodeKey, ResourceType},
};

/// One stream of one node, as people are shown it.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `sotw` or `delta`.
    pub protocol: &'static str,
    /// Unix milliseconds.
    pub connected_at: i64,
    /// By type URL.
    pub types: BTreeMap<&'static str, TypeStatus>,
}

/// What a node made of one type.
#[derive(Debug, Clone, Serialize)]
pub struct TypeStatus {
    /// Version of the newest response.
    pub sent: String,
    /// Newest version that it accepted.
    pub acked: String,
    /// Resources that it has, or was offered.
    pub resources: usize,
    /// Its newest answer, when that was a rejection.
    pub nack: Option<NackStatus>,
}

/// A rejection.
#[derive(Debug, Clone, Serialize)]
pub struct NackStatus {
    /// Version rejected.
    pub version: String,
    /// The node's words.
    pub message: String,
    /// Unix milliseconds.
    pub at: i64,
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    open: BTreeMap<u64, Node>,
}

/// All connected nodes.
#[derive(Debug, Default)]
pub struct Fleet {
    streams: Mutex<Streams>,
}

impl Fleet {
    /// Notes a stream; it is forgotten when the [`Connected`] is dropped.
    pub fn connect(self: &Arc<Self>, node: &NodeKey, variant: Variant, now: WallTime) -> Connected {
        let mut streams = self.lock();
        streams.last += 1;
        let stream = streams.last;
        let node = Node {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            protocol: match variant {
                Variant::StateOfTheWorld => "sotw",
                Variant::Delta => "delta",
            },
            connected_at: now.unix_millis(),
            types: BTreeMap::new(),
        };
        streams.open.insert(stream, node);
        drop(streams);
        Connected {
            fleet: Arc::clone(self),
            stream,
        }
    }

    /// Every open stream, oldest first.
    pub fn nodes(&self) -> Vec<Node> {
        self.lock().open.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream's entry.
#[derive(Debug)]
pub struct Connected {
    fleet: Arc<Fleet>,
    stream: u64,
}

impl Connected {
    /// Notes what the node made of one type. True when that is a rejection which was not known yet.
    pub fn report(&self, kind: ResourceType, status: &Status, now: WallTime) -> bool {
        let mut streams = self.fleet.lock();
        let Some(node) = streams.open.get_mut(&self.stream) else {
            return false;
        };
        let before = node.types.get(kind.url()).and_then(|old| old.nack.clone());
        let mut is_new = false;
        let nack = status.nack.as_ref().map(|nack| match before {
            Some(old) if old.version == nack.version => old,
            _ => {
                is_new = true;
                NackStatus {
                    version: nack.version.clone(),
                    message: nack.message.clone(),
                    at: now.unix_millis(),
                }
            }
        });
        let status = TypeStatus {
            sent: status.sent.clone(),
            acked: status.acked.clone(),
            resources: status.resources,
            nack,
        };
        node.types.insert(kind.url(), status);
        is_new
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.fleet.lock().open.remove(&self.stream);
    }
}
