//! Owner of the numbers of proxies: counts those that are connected here, follows what other servers count, and tells
//! by how many limits are divided.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use policy::{limit::FleetSize, time::MonoTime, units::ServiceName};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use super::{Pace, State, proxy};
use crate::{
    catalog::Revision,
    clock,
    compile::{Divided, FleetSizes},
    mesh::Mesh,
    publish::Publisher,
    store::{About, Draft, Log, Since, Store, StoreError},
};

/// How often it is looked who is connected.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
const LOOK_EVERY_MIN: Duration = Duration::from_millis(50);
/// Of a store that no other server has there is one name, which a restart keeps.
const ALONE: &str = "alone";

/// The numbers of proxies.
pub struct Census {
    store: Arc<dyn Store>,
    pace: Pace,
    state: Mutex<State>,
    sizes: watch::Sender<Arc<FleetSizes>>,
    /// Of this mesh, what is divided.
    divided: Mutex<(Arc<Mesh>, Divided)>,
    /// It was told that there are more than are counted.
    told_of_too_many: AtomicBool,
    began: Instant,
}

impl Census {
    /// With what the store holds: a server that starts divides limits as they were divided before.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn open(store: Arc<dyn Store>, pace: Pace, mesh: &Arc<Mesh>) -> Result<Self, StoreError> {
        let me = match store.is_shared() {
            true => format!("{:016x}", fastrand::u64(..)),
            false => ALONE.into(),
        };
        let census = Self {
            state: Mutex::new(State::new(&me, pace)),
            sizes: watch::Sender::default(),
            divided: Mutex::new((Arc::clone(mesh), Divided::of(mesh))),
            told_of_too_many: AtomicBool::new(false),
            began: Instant::now(),
            store,
            pace,
        };
        let kept = census.store.load(Log::Proxies)?;
        let now = census.now();
        let mut state = census.state();
        state.load(&kept, now);
        census.sizes.send_replace(state.begin(now));
        drop(state);
        Ok(census)
    }

    /// By how many limits are divided.
    pub fn sizes(&self) -> watch::Receiver<Arc<FleetSizes>> {
        self.sizes.subscribe()
    }

    /// Of how many proxies those of a gateway or service are that are told so; none where they share no limit.
    pub fn told(&self, mesh: &Mesh, member: &ServiceName) -> Option<FleetSize> {
        let divided = self.divided.lock().unwrap_or_else(PoisonError::into_inner);
        let concerned = divided.1.concerns_member(mesh, member);
        concerned.then(|| self.sizes.borrow().of(member))
    }

    /// Counts, until the sender of `revisions` is gone.
    pub async fn run(
        self: Arc<Self>,
        mut revisions: watch::Receiver<Arc<Revision>>,
        publisher: Arc<Publisher>,
    ) {
        let following = {
            let census = Arc::clone(&self);
            let take = move || census.take();
            let feed = self.store.feed(Log::Proxies);
            async move { feed.follow("numbers of proxies", take).await }
        };
        let counting = async {
            let every = (self.pace.told_every / 10).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
            let mut look = interval(every);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = look.tick() => {}
                    changed = revisions.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        self.follow_mesh(&Arc::clone(&revisions.borrow_and_update().mesh));
                        continue;
                    }
                }
                let (census, publisher) = (Arc::clone(&self), Arc::clone(&publisher));
                if spawn_blocking(move || census.look(&publisher))
                    .await
                    .is_err()
                {
                    // The runtime is going.
                    return;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = counting => {}
        }
    }

    fn follow_mesh(&self, mesh: &Arc<Mesh>) {
        let mut divided = self.divided.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&divided.0, mesh) {
            *divided = (Arc::clone(mesh), Divided::of(mesh));
        }
    }

    /// Counts once. Where no limit is divided nothing is counted and nothing written. Waits for the store.
    fn look(&self, publisher: &Publisher) {
        let (mesh, divided) = {
            let divided = self.divided.lock().unwrap_or_else(PoisonError::into_inner);
            divided.clone()
        };
        if divided.is_nothing() {
            return;
        }
        let mut seen = Vec::new();
        publisher.nodes(|cluster, id| {
            let member = ServiceName::new(cluster).ok();
            seen.extend(member.map(|member| (member, proxy(id))));
        });
        let now = self.now();
        let mut state = self.state();
        for (member, proxy) in seen {
            if divided.concerns_member(&mesh, &member) && !state.see(member, proxy, now) {
                if !self.told_of_too_many.swap(true, Relaxed) {
                    warn!(
                        "more proxies are connected than are counted: they share limits as if they were fewer"
                    );
                }
                break;
            }
        }
        state.forget(now);
        if self.store.problem().is_some() {
            state.hold(now);
        }
        let (seen, changes) = state.due(now);
        let after = state.revision();
        if let Some(sizes) = state.news(now) {
            info!(?sizes, "limits of a fleet are divided anew");
            self.sizes.send_replace(sizes);
        }
        drop(state);
        if changes.is_empty() {
            return;
        }
        let draft = Draft {
            about: About::of_api(clock::now()),
            changes,
        };
        match self.store.append(Log::Proxies, after, draft) {
            Ok(_) => self.state().wrote(seen, now),
            // The next look finds what came first.
            Err(StoreError::Moved { newest }) => debug!(newest, "other numbers came first"),
            Err(error) => debug!(%error, "the store does not take numbers of proxies"),
        }
        if let Err(error) = self.take() {
            debug!(%error, "the store's newest numbers of proxies cannot be had yet");
        }
    }

    /// Takes up what the store has beyond what is known.
    fn take(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        let now = self.now();
        match self.store.feed(Log::Proxies).since(state.revision()) {
            Since::Entries(entries) => {
                for entry in entries {
                    state.apply(entry.revision, &entry.changes, now);
                }
            }
            Since::Unknown => {
                let kept = self.store.load(Log::Proxies)?;
                state.load(&kept, now);
            }
        }
        Ok(())
    }

    fn now(&self) -> MonoTime {
        clock::mono(self.began.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
