//! Owner of what every node is sent now: the newest revision, and a feed for each connected node.

pub(crate) mod latest;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use policy::units::ServiceName;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info};

use self::latest::{Follower, Latest};
use crate::{
    catalog::Revision,
    compile::{self, Changed, Encoder, FilterCode, FleetSizes, NodeSpec, Shelf, Spot, Unhealthy},
    metrics::Metrics,
    pki::{Credentials, Identity, authority::Authority},
    raw::{LayersKey, RawState},
    resource::{Collection, NodeKey, View},
};

/// A first change is sent at once; those that follow within this time go together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Distinct node specs kept; beyond it views are still right, only not shared. A node chooses parts
/// of its spec, so what it says must not fill our memory.
const VIEWS_MAX: usize = 20_000;

/// Revisions of which it is known with which update they were published: who waits for one asks soon.
const FIRSTS_MAX: usize = 256;

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
/// nodes that do not differ: ten thousand sidecars of one service cost one.
struct Snapshot {
    revision: Arc<Revision>,
    unhealthy: Arc<Unhealthy>,
    raw: Arc<RawState>,
    authority: Arc<Authority>,
    /// Of each service and gateway that has a node here. Holding credentials is what keeps them renewed.
    secrets: HashMap<ServiceName, (Arc<Credentials>, Arc<Collection>)>,
    /// What the mesh says to nodes.
    shelf: Shelf,
    /// Raw resources laid over a base, by the base's address. The base is kept beside its result, so
    /// nothing else comes to lie there.
    overlaid: HashMap<(usize, LayersKey), (Arc<View>, Arc<View>)>,
}

impl Snapshot {
    fn base(&mut self, standing: &Standing) -> Arc<View> {
        let secrets = match &standing.member {
            Some(name) => match self.secrets.get(name) {
                Some((_, secrets)) => Arc::clone(secrets),
                None => self.secrets_of(name),
            },
            None => Arc::default(),
        };
        self.shelf.view(&standing.spot, &secrets)
    }

    /// What a node is to the mesh.
    fn standing(&mut self, node: &NodeKey) -> Standing {
        let spec = NodeSpec::of(&self.revision.mesh, node);
        Standing {
            spot: self.shelf.spot(&spec),
            member: spec.member().cloned(),
        }
    }

    /// Puts another mesh in force, or the same while other endpoints are unhealthy.
    fn next(&mut self, revision: Arc<Revision>, unhealthy: Arc<Unhealthy>) -> Changed {
        self.authority.set_days(revision.mesh.certificates.service);
        let mesh = Arc::clone(&revision.mesh);
        let changed = self.shelf.next(mesh, Arc::clone(&unhealthy));
        self.revision = revision;
        self.unhealthy = unhealthy;
        if changed == Changed::All {
            // Perhaps in another trust domain.
            let names: Vec<ServiceName> = self.secrets.keys().cloned().collect();
            for name in names {
                self.secrets_of(&name);
            }
        }
        changed
    }

    fn over(&mut self, base: &Arc<View>, node: &NodeKey) -> Arc<View> {
        let layers = self.raw.layers(node);
        let key = (Arc::as_ptr(base) as usize, layers);
        if let Some((_, view)) = self.overlaid.get(&key) {
            return Arc::clone(view);
        }
        let view = self.raw.over(base, &key.1);
        if self.overlaid.len() < VIEWS_MAX {
            self.overlaid
                .insert(key, (Arc::clone(base), Arc::clone(&view)));
        }
        view
    }

    /// A member's own certificate and whom it trusts; nothing while none can be issued.
    fn secrets_of(&mut self, name: &ServiceName) -> Arc<Collection> {
        let identity = Identity::Member(self.revision.mesh.trust_domain.clone(), name.clone());
        let credentials = match self.authority.credentials(&identity) {
            Ok(credentials) => credentials,
            Err(problem) => {
                error!(identity = identity.spiffe_id(), %problem, "no certificate");
                return Arc::default();
            }
        };
        if let Some((known, secrets)) = self.secrets.get(name)
            && Arc::ptr_eq(known, &credentials)
        {
            return Arc::clone(secrets);
        }
        let Credentials {
            chain, key, bundle, ..
        } = &*credentials;
        let secrets = Arc::new(compile::secrets(chain, key, bundle));
        self.secrets
            .insert(name.clone(), (credentials, Arc::clone(&secrets)));
        secrets
    }

    /// Takes renewed certificates up; whose they are. Members without a node are forgotten.
    fn renew(&mut self, has_node: &HashSet<ServiceName>) -> HashSet<ServiceName> {
        self.secrets.retain(|name, _| has_node.contains(name));
        let before: Vec<(ServiceName, Arc<Collection>)> = self
            .secrets
            .iter()
            .map(|(name, (_, secrets))| (name.clone(), Arc::clone(secrets)))
            .collect();
        let renewed = before
            .into_iter()
            .filter(|(name, before)| !Arc::ptr_eq(&self.secrets_of(name), before))
            .map(|(name, _)| name);
        let renewed = renewed.collect();
        // Those over a base that nobody is sent any more.
        self.overlaid
            .retain(|_, (base, _)| Arc::strong_count(base) > 1);
        renewed
    }
}

/// What a node is to the mesh.
struct Standing {
    /// The service or gateway that it is.
    member: Option<ServiceName>,
    spot: Spot,
}

/// A connected node: what it is sent, and by how many streams.
struct Feed {
    standing: Standing,
    /// What the mesh says to it.
    base: Arc<View>,
    latest: Arc<Latest>,
    streams: usize,
}

impl Feed {
    /// Wakes the node's streams when a view is another one than before.
    fn tell(&self, view: Arc<View>, since: Instant, number: u64) {
        self.latest.put(Update {
            view,
            since,
            number,
        });
    }
}

struct State {
    snapshot: Snapshot,
    /// Of the newest update.
    number: u64,
    /// Of the newest revisions of the mesh: the update with which each was published.
    firsts: VecDeque<(u64, u64)>,
    feeds: HashMap<NodeKey, Feed>,
}

impl State {
    /// This revision is published with the newest update.
    fn published(&mut self, revision: u64) {
        if self.firsts.back().is_none_or(|(last, _)| *last != revision) {
            self.firsts.push_back((revision, self.number));
        }
        if self.firsts.len() > FIRSTS_MAX {
            self.firsts.pop_front();
        }
    }
}

/// What every node is sent now.
pub struct Publisher {
    state: Mutex<State>,
    /// Revision of the raw resources that every node is sent.
    published: watch::Sender<u64>,
    /// The same of the mesh.
    published_mesh: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// Serves this revision, and these raw resources over it.
    pub fn new(
        revision: Arc<Revision>,
        sizes: &Arc<FleetSizes>,
        raw: Arc<RawState>,
        code: Arc<FilterCode>,
        encoder: Arc<Encoder>,
        authority: Arc<Authority>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.published(revision.number);
        authority.set_days(revision.mesh.certificates.service);
        let published = watch::Sender::new(raw.revision());
        let firsts = VecDeque::from([(revision.number, 0)]);
        let published_mesh = watch::Sender::new(revision.number);
        let mut shelf = Shelf::new(Arc::clone(&revision.mesh), code, encoder);
        shelf.divide(sizes);
        let snapshot = Snapshot {
            shelf,
            revision,
            unhealthy: Arc::default(),
            raw,
            authority,
            secrets: HashMap::new(),
            overlaid: HashMap::new(),
        };
        Self {
            state: Mutex::new(State {
                snapshot,
                number: 0,
                firsts,
                feeds: HashMap::new(),
            }),
            published,
            published_mesh,
            metrics,
        }
    }

    /// Revision of the mesh that whoever asks from now on is sent.
    pub fn published_mesh(&self) -> watch::Receiver<u64> {
        self.published_mesh.subscribe()
    }

    /// Number of the update with which a revision of the mesh was published, or the first one after it.
    pub fn update_of(&self, revision: u64) -> u64 {
        let state = self.lock();
        let mut firsts = state.firsts.iter();
        let first = firsts.find(|(published, _)| *published >= revision);
        first.map_or(state.number, |(_, update)| *update)
    }

    /// What each connected node is sent now.
    pub fn views(&self) -> Vec<(NodeKey, Arc<View>)> {
        let state = self.lock();
        let view = |(node, feed): (&NodeKey, &Feed)| (node.clone(), feed.latest.update().view);
        state.feeds.iter().map(view).collect()
    }

    /// Every connected node, by group: `node.cluster` and `node.id`.
    pub fn nodes(&self, mut each: impl FnMut(&str, &str)) {
        for node in self.lock().feeds.keys() {
            each(&node.cluster, &node.id);
        }
    }

    /// Revision of the raw resources that whoever asks from now on is sent.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Follows what a node is sent, until the subscription is dropped; and what it is sent first.
    pub fn subscribe(self: &Arc<Self>, node: NodeKey) -> (Update, Subscription) {
        let mut state = self.lock();
        let State {
            snapshot,
            number,
            feeds,
            ..
        } = &mut *state;
        let feed = feeds.entry(node.clone()).or_insert_with(|| {
            let standing = snapshot.standing(&node);
            let base = snapshot.base(&standing);
            let first = Update {
                view: snapshot.over(&base, &node),
                since: Instant::now(),
                number: *number,
            };
            Feed {
                standing,
                base,
                latest: Latest::new(first),
                streams: 0,
            }
        });
        feed.streams += 1;
        let (first, updates) = feed.latest.follow();
        let subscription = Subscription {
            updates,
            node,
            publisher: Arc::clone(self),
        };
        (first, subscription)
    }

    /// Lets every stream look around, though nothing is published.
    pub fn wake(&self) {
        for feed in self.lock().feeds.values() {
            feed.latest.wake();
        }
    }

    /// Puts a revision, what is known of its endpoints' health, how many proxies share its limits, and raw resources
    /// in force: every connected node whose view differs is told.
    fn publish(
        &self,
        revision: Arc<Revision>,
        unhealthy: Arc<Unhealthy>,
        sizes: &Arc<FleetSizes>,
        raw: Arc<RawState>,
    ) {
        let mut state = self.lock();
        let State {
            snapshot,
            number,
            feeds,
            ..
        } = &mut *state;
        *number += 1;
        let is_same = Arc::ptr_eq(&snapshot.revision, &revision)
            && Arc::ptr_eq(&snapshot.unhealthy, &unhealthy);
        let changed = (!is_same).then(|| {
            self.metrics.published(revision.number);
            snapshot.next(revision, unhealthy)
        });
        let divided = snapshot.shelf.divide(sizes);
        snapshot.overlaid.clear();
        snapshot.raw = raw;
        let since = Instant::now();
        for (node, feed) in feeds {
            let is_divided = divided.may_be_of(&node.cluster);
            let may_be_other = |changed: &Changed| is_divided || changed.may_be_of(&node.cluster);
            if changed.as_ref().map_or(is_divided, may_be_other) {
                feed.standing = snapshot.standing(node);
            }
            if changed.is_some() || is_divided {
                feed.base = snapshot.base(&feed.standing);
            }
            feed.tell(snapshot.over(&feed.base, node), since, *number);
        }
        let (raw, mesh) = (snapshot.raw.revision(), snapshot.revision.number);
        state.published(mesh);
        self.published.send_replace(raw);
        self.published_mesh.send_replace(mesh);
    }

    /// Certificates were renewed: who has one of them is told, and nobody else.
    fn renew(&self) {
        let mut state = self.lock();
        let State {
            snapshot,
            number,
            feeds,
            ..
        } = &mut *state;
        let clusters: HashSet<&str> = feeds.keys().map(|node| &*node.cluster).collect();
        let has_node = clusters
            .into_iter()
            .filter_map(|name| ServiceName::new(name).ok());
        let renewed = snapshot.renew(&has_node.collect());
        if renewed.is_empty() {
            return;
        }
        *number += 1;
        let since = Instant::now();
        let names: HashSet<&str> = renewed.iter().map(ServiceName::as_str).collect();
        for (node, feed) in feeds {
            if names.contains(&*node.cluster) {
                feed.base = snapshot.base(&feed.standing);
                feed.tell(snapshot.over(&feed.base, node), since, *number);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's end of its node's feed.
pub struct Subscription {
    /// What the node is sent after that.
    pub updates: Follower,
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

/// What is published.
pub struct Sources {
    /// Revisions of the mesh.
    pub revisions: watch::Receiver<Arc<Revision>>,
    /// Which of its endpoints are unhealthy.
    pub unhealthy: watch::Receiver<Arc<Unhealthy>>,
    /// Among how many proxies its limits are divided.
    pub sizes: watch::Receiver<Arc<FleetSizes>>,
    /// Raw resources.
    pub raw: watch::Receiver<Arc<RawState>>,
    /// Renewed certificates.
    pub renewed: watch::Receiver<u64>,
}

/// Publishes what changes, until one of the senders is gone.
pub async fn follow(sources: Sources, publisher: Arc<Publisher>) {
    let Sources {
        mut revisions,
        mut unhealthy,
        mut sizes,
        mut raw,
        mut renewed,
    } = sources;
    let mut last: Option<Instant> = None;
    loop {
        let changed = tokio::select! {
            changed = revisions.changed() => changed,
            changed = unhealthy.changed() => changed,
            changed = sizes.changed() => changed,
            changed = raw.changed() => changed,
            changed = renewed.changed() => {
                publisher.renew();
                match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
        };
        if changed.is_err() {
            return;
        }
        if let Some(last) = last {
            tokio::time::sleep_until(last + TOGETHER).await;
        }
        let revision = Arc::clone(&revisions.borrow_and_update());
        let unhealthy = Arc::clone(&unhealthy.borrow_and_update());
        let sizes = Arc::clone(&sizes.borrow_and_update());
        let raw = Arc::clone(&raw.borrow_and_update());
        info!(
            revision = revision.number,
            resources = raw.revision(),
            "published"
        );
        publisher.publish(revision, unhealthy, &sizes, raw);
        last = Some(Instant::now());
    }
}
