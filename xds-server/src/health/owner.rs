//! Owner of what is known of endpoints' health: takes reports, shares the work, lets old words go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use policy::{
    time::{CivilZone, MonoTime, Now, WallTime},
    units::ServiceName,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use super::{
    Change, Heard, State, Task, Verdict,
    view::{self, Service, Wanted},
};
use crate::{
    callers::Breakers, catalog::Revision, clock, compile::Unhealthy, mesh::Mesh, metrics::Metrics,
    page::Page, resource::NodeKey,
};

/// How often it is looked for words that are too old.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Gateways and endpoints that come and go within this time are heeded together.
const TOGETHER: Duration = Duration::from_millis(100);

struct Inner {
    state: State,
    tasks: HashMap<u64, watch::Sender<Arc<Task>>>,
}

impl Inner {
    fn ask(&mut self, tasks: Vec<(u64, Arc<Task>)>) {
        for (stream, task) in tasks {
            if let Some(sender) = self.tasks.get(&stream) {
                sender.send_replace(task);
            }
        }
    }
}

/// What the data plane says of endpoints' health.
pub struct Health {
    inner: Mutex<Inner>,
    unhealthy: watch::Sender<Arc<Unhealthy>>,
    /// Gateways must be asked anew.
    gateways: Notify,
    began: Instant,
    metrics: Arc<Metrics>,
}

impl Health {
    /// Nothing is known yet. At most so many Envoys are listened to.
    pub fn new(mesh: Arc<Mesh>, streams_max: usize, metrics: Arc<Metrics>, now: WallTime) -> Self {
        let now = Now {
            wall: now,
            mono: MonoTime::from_nanos(0),
        };
        Self {
            inner: Mutex::new(Inner {
                state: State::new(mesh, streams_max, now),
                tasks: HashMap::new(),
            }),
            unhealthy: watch::Sender::default(),
            gateways: Notify::new(),
            began: Instant::now(),
            metrics,
        }
    }

    /// The endpoints to which callers are to send nothing.
    pub fn unhealthy(&self) -> watch::Receiver<Arc<Unhealthy>> {
        self.unhealthy.subscribe()
    }

    /// An Envoy may be asked, until the value is dropped; None when there are too many.
    pub fn open(self: &Arc<Self>, node: NodeKey) -> Option<Reporting> {
        let mut inner = self.lock();
        let (stream, task) = inner.state.open(node)?;
        let (sender, tasks) = watch::channel(task);
        inner.tasks.insert(stream, sender);
        let is_asked = inner.state.is_asked();
        drop(inner);
        if !is_asked {
            self.gateways.notify_one();
        }
        Some(Reporting {
            health: Arc::clone(self),
            stream,
            tasks,
        })
    }

    /// The services that are wanted, with what is known of their endpoints, and with what `breaker` says of each.
    pub fn page(
        &self,
        mesh: &Mesh,
        wanted: &Wanted,
        zone: &CivilZone,
        now: WallTime,
        breaker: impl Fn(&ServiceName) -> Option<Breakers>,
    ) -> Page<Service> {
        let with = |services: &mut dyn FnMut(&State) -> _| {
            // Locked anew for each few: nobody who reports waits for a whole page.
            let inner = self.lock();
            services(&inner.state)
        };
        view::page(mesh, wanted, zone, now, with, breaker)
    }

    /// Follows the mesh, shares the work among gateways, and lets old words go, until the mesh's owner is
    /// gone.
    pub async fn run(&self, mut revisions: watch::Receiver<Arc<Revision>>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    let mut inner = self.lock();
                    let changes = inner.state.tick(self.now());
                    self.told(&inner.state, &changes);
                    if !inner.state.is_asked() {
                        self.gateways.notify_one();
                    }
                }
                () = self.gateways.notified() => {
                    sleep(TOGETHER).await;
                    let mut inner = self.lock();
                    let tasks = inner.state.assign();
                    inner.ask(tasks);
                }
                changed = revisions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Instances come and go by the hundred.
                    sleep(TOGETHER).await;
                    let mesh = Arc::clone(&revisions.borrow_and_update().mesh);
                    let mut inner = self.lock();
                    let (tasks, changes) = inner.state.follow(mesh, self.now());
                    inner.ask(tasks);
                    self.told(&inner.state, &changes);
                }
            }
        }
    }

    fn now(&self) -> Now {
        clock::both(self.began.elapsed())
    }

    /// Tells of changes: callers, the log, the metrics.
    fn told(&self, state: &State, changes: &[Change]) {
        for change in changes {
            tell(change);
            let health = match change.to {
                Some(Verdict::Healthy) => Some(true),
                Some(Verdict::Unhealthy) => Some(false),
                Some(Verdict::Unknown) | None => None,
            };
            self.metrics
                .endpoint_health(change.service.as_str(), &change.endpoint, health);
        }
        self.unhealthy.send_if_modified(|told| {
            let differs = !Arc::ptr_eq(told, state.unhealthy());
            *told = Arc::clone(state.unhealthy());
            differs
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(change: &Change) {
    let (service, endpoint) = (change.service.as_str(), change.endpoint.as_str());
    let (from, by) = (change.from.name(), change.by.join(", "));
    match (change.from, change.to) {
        (_, Some(Verdict::Unhealthy)) => {
            warn!(service, endpoint, from, by, "the endpoint is unhealthy");
        }
        (Verdict::Unhealthy, Some(to)) => {
            info!(service, endpoint, from, by, "the endpoint is {}", to.name());
        }
        (_, Some(to)) => debug!(service, endpoint, from, by, "the endpoint is {}", to.name()),
        (_, None) => debug!(
            service,
            endpoint, from, "the endpoint is not checked any more"
        ),
    }
}

/// An open stream of one Envoy.
pub struct Reporting {
    health: Arc<Health>,
    stream: u64,
    /// What it is asked.
    pub tasks: watch::Receiver<Arc<Task>>,
}

impl Reporting {
    /// Takes a report.
    pub fn report(&self, report: &[Heard]) {
        let health = &self.health;
        let mut inner = health.lock();
        let changes = inner.state.report(self.stream, report, health.now());
        health.told(&inner.state, &changes);
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        let mut inner = self.health.lock();
        inner.state.close(self.stream, self.health.now());
        inner.tasks.remove(&self.stream);
        let is_asked = inner.state.is_asked();
        drop(inner);
        if !is_asked {
            self.health.gateways.notify_one();
        }
    }
}
