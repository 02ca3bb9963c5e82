//! Owner of what connected Envoys are and what they made of what they were sent.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use policy::time::WallTime;

use crate::{
    discovery::{self, Has, Held, Position, Variant},
    metrics::{Metrics, OpenStream, Service},
    resource::{Resource, ResourceType},
};

/// What a node says of itself, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.user_agent_name`.
    pub user_agent: String,
    /// `node.user_agent_version` or the number of `user_agent_build_version`.
    pub version: String,
    /// `node.locality.region`.
    pub region: String,
    /// `node.locality.zone`.
    pub zone: String,
    /// `node.locality.sub_zone`.
    pub sub_zone: String,
    /// Of the filter's file beside it, when it says so: `node.metadata.mumbai_mesh.filter_sha256`.
    pub filter_sha256: Option<String>,
}

/// A rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Version rejected.
    pub version: Arc<str>,
    /// Number of the view that it was sent because of: [`crate::publish::Update::number`].
    pub update: u64,
    /// The node's words.
    pub message: String,
    /// When it came.
    pub at: WallTime,
}

/// What one stream's node made of one type.
#[derive(Debug, Clone)]
pub struct TypeStatus {
    /// Version of the newest response; empty when none was sent.
    pub sent: Arc<str>,
    /// When it was sent.
    pub sent_at: Option<WallTime>,
    /// Newest version that it accepted; empty when it accepted none.
    pub acked: Arc<str>,
    /// When it did.
    pub acked_at: Option<WallTime>,
    /// Its newest answer, when that was a rejection.
    pub nack: Option<Nack>,
    /// The newest rejection of this stream, mended since or not.
    pub last_nack: Option<Arc<Nack>>,
    /// What it rejected, by name, for as long as there is nothing else to send.
    pub refused: Arc<[discovery::Refused]>,
    /// What it is not sent because of what it rejected.
    pub held: Arc<[Held]>,
    /// It wants all there is.
    pub wildcard: bool,
    /// How many names it asked for.
    pub names: usize,
    /// How many resources it has or was offered, also those kept from an earlier stream.
    pub known: usize,
    /// The newest response waits for its answer.
    pub waiting: bool,
    /// What it wants, and has of it.
    pub holding: Holding,
}

impl TypeStatus {
    /// Whether a response was rejected of which nothing was new to the client: it may be any resource.
    pub fn rejects_what_it_had(&self) -> bool {
        self.nack.is_some() && self.refused.is_empty() && !self.waiting
    }
}

/// What a node has of one type; shared with its stream, so that looking at thousands of nodes copies
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct Holding {
    position: Option<Arc<Position>>,
    before: Option<Arc<Position>>,
}

impl Holding {
    /// What it has, or was sent, by name; and the names that it wants and has nothing under.
    pub fn each(&self) -> impl Iterator<Item = (&str, Has<'_>)> {
        self.position.iter().flat_map(|position| position.each())
    }

    /// Whether it has answered for what it has, or was sent, under this name.
    pub fn has_answered(&self, resource: &Arc<Resource>) -> bool {
        let before = self.before.as_ref();
        before.is_none_or(|before| before.knows(resource))
    }

    /// Whether it has answered for something under this name.
    pub fn had(&self, name: &str) -> bool {
        let before = self.before.as_ref().or(self.position.as_ref());
        before.is_some_and(|before| before.has(name))
    }
}

/// Times beside what the protocol's core knows.
#[derive(Debug, Clone)]
struct Entry {
    status: discovery::Status,
    sent_at: Option<WallTime>,
    acked_at: Option<WallTime>,
    /// The newest rejection, mended since or not.
    last_nack: Option<Arc<Nack>>,
}

/// What happened to one type of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A request that answered nothing.
    Asked,
    /// A response of so many bytes went out.
    Sent(usize),
    /// The newest response was accepted.
    Acked,
    /// The newest response was rejected.
    Nacked,
}

/// One open stream.
#[derive(Debug)]
pub struct StreamStatus {
    /// Unique among all streams of this process.
    pub number: u64,
    /// Whose it is.
    pub node: NodeInfo,
    /// Its variant of the protocol.
    pub variant: Variant,
    /// Its service.
    pub service: Service,
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
    /// Since when.
    pub connected_at: WallTime,
    requests: AtomicU64,
    responses: AtomicU64,
    acks: AtomicU64,
    nacks: AtomicU64,
    bytes: AtomicU64,
    types: Mutex<Vec<(ResourceType, Entry)>>,
    _open: OpenStream,
}

impl StreamStatus {
    /// Requests that came.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Responses that went out.
    pub fn responses(&self) -> u64 {
        self.responses.load(Relaxed)
    }

    /// Responses that were accepted.
    pub fn acks(&self) -> u64 {
        self.acks.load(Relaxed)
    }

    /// Responses that were rejected.
    pub fn nacks(&self) -> u64 {
        self.nacks.load(Relaxed)
    }

    /// Bytes of responses.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// What the node made of each type that it asked for.
    pub fn types(&self) -> BTreeMap<ResourceType, TypeStatus> {
        let entries = lock(&self.types).clone();
        entries
            .into_iter()
            .map(|(kind, entry)| (kind, entry.shown()))
            .collect()
    }

    /// Notes what is known of a type now, though nothing was sent or answered.
    pub fn refresh(&self, kind: ResourceType, status: &discovery::Status) {
        let mut types = lock(&self.types);
        let known = types.iter_mut().find(|(known, _)| *known == kind);
        if let Some((_, entry)) = known {
            entry.status.clone_from(status);
        }
    }

    /// Notes what happened to a type.
    pub fn note(
        &self,
        kind: ResourceType,
        event: Event,
        status: &discovery::Status,
        now: WallTime,
    ) {
        match event {
            Event::Asked => {}
            Event::Sent(bytes) => {
                self.responses.fetch_add(1, Relaxed);
                self.bytes.fetch_add(bytes as u64, Relaxed);
            }
            Event::Acked => _ = self.acks.fetch_add(1, Relaxed),
            Event::Nacked => _ = self.nacks.fetch_add(1, Relaxed),
        }
        if !matches!(event, Event::Sent(_)) {
            self.requests.fetch_add(1, Relaxed);
        }
        let mut types = lock(&self.types);
        let place = types.iter().position(|(known, _)| *known == kind);
        let entry = match place {
            Some(place) => &mut types[place].1,
            None => {
                let entry = Entry {
                    status: status.clone(),
                    sent_at: None,
                    acked_at: None,
                    last_nack: None,
                };
                &mut types.push_mut((kind, entry)).1
            }
        };
        entry.status.clone_from(status);
        match event {
            Event::Asked => {}
            Event::Sent(_) => entry.sent_at = Some(now),
            Event::Nacked => {
                let nack = status.nack.as_ref().map(|nack| Nack {
                    version: Arc::clone(&nack.version),
                    update: nack.update,
                    message: nack.message.clone(),
                    at: now,
                });
                entry.last_nack = nack.map(Arc::new);
            }
            Event::Acked => entry.acked_at = Some(now),
        }
    }
}

impl Entry {
    fn shown(self) -> TypeStatus {
        let status = self.status;
        TypeStatus {
            sent: status.sent,
            sent_at: self.sent_at,
            acked: status.acked,
            acked_at: self.acked_at,
            // The newest one, for as long as it is not mended.
            nack: status.nack.and(self.last_nack.as_deref().cloned()),
            last_nack: self.last_nack,
            refused: status.refused,
            held: status.held,
            wildcard: status.position.is_wildcard(),
            names: status.position.names(),
            known: status.position.known(),
            waiting: status.waiting,
            holding: Holding {
                position: Some(status.position),
                before: status.before,
            },
        }
    }
}

/// Who opens a stream.
#[derive(Debug)]
pub struct Caller {
    /// What it says of itself.
    pub node: NodeInfo,
    /// The variant of the protocol that it speaks.
    pub variant: Variant,
    /// The service that it called.
    pub service: Service,
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
}

/// All open streams.
#[derive(Debug)]
pub struct Fleet {
    metrics: Arc<Metrics>,
    streams_max: usize,
    /// Calls that hold a place, those that have not said who they are included.
    places: Mutex<usize>,
    streams: Mutex<BTreeMap<u64, Arc<StreamStatus>>>,
    last: AtomicU64,
}

impl Fleet {
    /// Of at most so many streams.
    pub fn new(metrics: Arc<Metrics>, streams_max: usize) -> Self {
        Self {
            metrics,
            streams_max,
            places: Mutex::default(),
            streams: Mutex::default(),
            last: AtomicU64::new(0),
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A call's place, kept until it is dropped; None when there is none left.
    pub fn admit(self: &Arc<Self>) -> Option<Place> {
        let mut places = lock(&self.places);
        if *places >= self.streams_max {
            return None;
        }
        *places += 1;
        Some(Place {
            number: self.last.fetch_add(1, Relaxed) + 1,
            fleet: Arc::clone(self),
        })
    }

    /// Most streams at once.
    pub fn streams_max(&self) -> usize {
        self.streams_max
    }

    /// Every open stream, oldest first.
    pub fn streams(&self) -> Vec<Arc<StreamStatus>> {
        lock(&self.streams).values().cloned().collect()
    }
}

/// A place among the streams.
#[derive(Debug)]
pub struct Place {
    /// Number of the stream.
    pub number: u64,
    fleet: Arc<Fleet>,
}

impl Place {
    /// Notes whose stream it is. It is forgotten when the place is dropped.
    pub fn taken(&self, caller: Caller, now: WallTime) -> Arc<StreamStatus> {
        let open = self.fleet.metrics.opened(caller.service, caller.variant);
        let status = Arc::new(StreamStatus {
            number: self.number,
            node: caller.node,
            variant: caller.variant,
            service: caller.service,
            peer: caller.peer,
            connected_at: now,
            requests: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            nacks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            types: Mutex::default(),
            _open: open,
        });
        lock(&self.fleet.streams).insert(self.number, Arc::clone(&status));
        status
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&self.fleet.places) -= 1;
        lock(&self.fleet.streams).remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
