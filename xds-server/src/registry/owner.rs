//! Owner of the instances that registered, and of the mesh with them: what everybody else is told is in force.

mod beat;
mod follow;
mod keep;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use policy::time::Now;
use prometheus::IntCounter;
use tokio::{
    sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    Ask, Done, Refused, State, Wish,
    ask::made,
    merge,
    state::Becomes,
    tell::{Alarm, InstancesBecame, vanished},
    view::{self, Shown, Wanted},
    wish::Batch,
};
use crate::{
    catalog::Revision,
    clock,
    mesh::Mesh,
    page::Page,
    store::{About, Change, Draft, Log, Store, StoreError},
};

/// How often it is looked whose lease has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Wishes that go into one revision.
const TOGETHER_MAX: usize = 1_000;
/// What became of instances and was not told yet to who listens slowly.
const UNTOLD_MAX: usize = 256;
/// Wishes that wait; who comes then waits to be taken in.
const WAITING_MAX: usize = 10_000;

struct Inner {
    state: State,
    /// As the file says it.
    base: Arc<Revision>,
    /// With all instances.
    merged: Arc<Revision>,
}

struct Asked {
    ask: Ask,
    answer: oneshot::Sender<Result<Done, Refused>>,
}

/// What is asked and not decided yet.
pub struct Inbox(mpsc::Receiver<Asked>);

/// All instances.
pub struct Registry {
    store: Arc<dyn Store>,
    inner: Mutex<Inner>,
    /// One writes at a time.
    writer: Mutex<Writer>,
    merged: watch::Sender<Arc<Revision>>,
    /// What becomes of instances; none where that is not known in particular.
    became: broadcast::Sender<Option<Arc<InstancesBecame>>>,
    alarm: watch::Sender<Arc<Alarm>>,
    wishes: mpsc::Sender<Asked>,
    heartbeats: IntCounter,
    /// For heartbeats of strangers.
    looks: Semaphore,
    /// Something is due at once.
    due: Notify,
    began: Instant,
}

#[derive(Default)]
struct Writer {
    /// The shared store did not answer: others' heartbeats are not known.
    is_troubled: bool,
}

impl Registry {
    /// What the store holds, over the mesh of the file.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn open(
        store: Arc<dyn Store>,
        base: Arc<Revision>,
        heartbeats: IntCounter,
    ) -> Result<(Self, Inbox), StoreError> {
        let me = store
            .is_shared()
            .then(|| keep::new_name(&*store))
            .transpose()?;
        let mut state = State::new(me.as_deref());
        let kept = store.load(Log::Instances)?;
        let began = Instant::now();
        state.load(&kept, clock::both(began.elapsed()));
        let merged = Arc::new(Revision {
            mesh: Arc::new(merge::over(&base.mesh, state.services().iter(), None)),
            ..Revision::clone(&base)
        });
        let alarm = state.services().iter().filter_map(|(name, instances)| {
            let vanished = vanished(instances)?;
            Some((name.clone(), vanished))
        });
        let (wishes, inbox) = mpsc::channel(WAITING_MAX);
        let registry = Self {
            store,
            merged: watch::Sender::new(Arc::clone(&merged)),
            became: broadcast::Sender::new(UNTOLD_MAX),
            alarm: watch::Sender::new(Arc::new(alarm.collect())),
            inner: Mutex::new(Inner {
                state,
                base,
                merged,
            }),
            writer: Mutex::default(),
            wishes,
            heartbeats,
            looks: Semaphore::new(beat::LOOKS_MAX),
            due: Notify::new(),
            began,
        };
        Ok((registry, Inbox(inbox)))
    }

    /// The mesh with all instances, of the file's revision.
    pub fn revisions(&self) -> watch::Receiver<Arc<Revision>> {
        self.merged.subscribe()
    }

    /// What becomes of instances from now on; none where that is not known in particular.
    pub fn became(&self) -> broadcast::Receiver<Option<Arc<InstancesBecame>>> {
        self.became.subscribe()
    }

    /// Who vanished.
    pub fn alarm(&self) -> watch::Receiver<Arc<Alarm>> {
        self.alarm.subscribe()
    }

    /// Another mesh with all instances, as it would be served.
    pub fn over(&self, mesh: &Mesh) -> Mesh {
        merge::over(mesh, self.inner().state.services().iter(), None)
    }

    /// Has it done. The answer comes when it is in the store and in the mesh.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn ask(&self, ask: Ask) -> Result<Done, Refused> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { ask, answer };
        if self.wishes.send(asked).await.is_err() {
            return Err(Refused::Stopping);
        }
        answered.await.unwrap_or(Err(Refused::Stopping))
    }

    /// What would be done now; nothing is.
    ///
    /// # Errors
    /// Why nothing would be.
    pub fn try_out(&self, ask: &Ask) -> Result<Done, Refused> {
        let inner = self.inner();
        Batch::new(&inner.state, &inner.base.mesh, self.now()).take(ask)
    }

    /// The newest revision of instances.
    pub fn revision(&self) -> u64 {
        self.inner().state.revision()
    }

    /// Kept revisions before `before`, the newest first. Waits for the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn history(&self, before: u64, limit: usize) -> Result<Vec<(u64, About)>, StoreError> {
        self.store.history(Log::Instances, before, limit)
    }

    /// Instances as people look at them.
    pub fn page(&self, wanted: &Wanted) -> Page<Shown> {
        let inner = self.inner();
        view::page(&inner.base.mesh, &inner.state, wanted, self.now())
    }

    /// One of them.
    pub fn one(&self, service: &str, id: &str) -> Option<Shown> {
        let inner = self.inner();
        view::one(&inner.base.mesh, &inner.state, service, id, self.now())
    }

    /// How many instances of each service stand how, for Prometheus.
    pub fn counts(&self) -> view::Counts {
        view::counts(&self.inner().state)
    }

    /// Decides what is asked, watches leases, follows the store and the file's mesh, until `base`'s sender is gone.
    pub async fn run(self: Arc<Self>, inbox: Inbox, base: watch::Receiver<Arc<Revision>>) {
        let following = {
            let registry = Arc::clone(&self);
            let take = move || registry.take();
            let feed = self.store.feed(Log::Instances);
            async move { feed.follow("instances", take).await }
        };
        tokio::select! {
            () = Arc::clone(&self).write(inbox) => {}
            () = following => {}
            () = Arc::clone(&self).keep() => {}
            () = self.follow_base(base) => {}
        }
    }

    async fn write(self: Arc<Self>, Inbox(mut inbox): Inbox) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut asked = Vec::new();
            tokio::select! {
                count = inbox.recv_many(&mut asked, TOGETHER_MAX) => {
                    if count == 0 {
                        return;
                    }
                }
                () = self.due.notified() => {}
                _ = look.tick() => {}
            }
            let registry = Arc::clone(&self);
            if spawn_blocking(move || registry.commit(asked))
                .await
                .is_err()
            {
                // The runtime is going.
                return;
            }
        }
    }

    /// Writes what is asked and what is due as one revision, and answers. Waits for the store.
    fn commit(&self, asked: Vec<Asked>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_silence_known = self.is_silence_known(&mut writer);
        let (asks, answers): (Vec<Ask>, Vec<_>) = asked
            .into_iter()
            .map(|asked| (asked.ask, asked.answer))
            .unzip();
        let mut known = match asks.is_empty() {
            true => Ok(()),
            false => self.store.catch_up(Log::Instances),
        };
        let decided: Vec<Result<Done, Refused>> = loop {
            known = known.and_then(|()| self.take());
            if let Err(error) = known {
                let error = Arc::new(error);
                break asks.iter().map(|_| Err(not_kept(&error))).collect();
            }
            let (after, decided, changes) = self.decide(&asks, is_silence_known);
            if changes.is_empty() {
                break decided;
            }
            match self.append(after, made(&asks, &decided, clock::now()), &changes) {
                Ok(()) => break decided,
                Err(StoreError::Moved { newest }) => {
                    info!(newest, "other instances came first");
                }
                Err(error) => {
                    warn!(%error, "the store does not take what became of instances");
                    writer.is_troubled = true;
                    self.go_on_without(changes);
                    let error = Arc::new(error);
                    break decided
                        .into_iter()
                        .map(|done| match done {
                            Ok(done) if !done.changed.is_empty() => Err(not_kept(&error)),
                            other => other,
                        })
                        .collect();
                }
            }
        };
        self.heed(&asks, &decided);
        drop(writer);
        for (answer, decided) in answers.into_iter().zip(decided) {
            // Who asked may have left.
            let _ = answer.send(decided);
        }
    }

    fn decide(
        &self,
        asks: &[Ask],
        is_silence_known: bool,
    ) -> (u64, Vec<Result<Done, Refused>>, Vec<Becomes>) {
        let inner = self.inner();
        let now = self.now();
        let mut batch = Batch::new(&inner.state, &inner.base.mesh, now);
        let decided = asks.iter().map(|ask| batch.take(ask)).collect();
        let due = match is_silence_known {
            true => inner.state.due(&inner.base.mesh, now),
            false => Vec::new(),
        };
        (inner.state.revision(), decided, batch.changes(due))
    }

    fn append(&self, after: u64, about: About, changes: &[Becomes]) -> Result<(), StoreError> {
        let change = |(id, becomes): &Becomes| Change {
            key: id.key(),
            value: becomes.as_ref().map(super::Instance::kept),
        };
        let draft = Draft {
            about,
            changes: changes.iter().map(change).collect(),
        };
        self.store.append(Log::Instances, after, draft)?;
        if let Err(error) = self.take() {
            // It is taken up by who follows.
            warn!(%error, "the store's newest instances cannot be had yet");
        }
        Ok(())
    }

    /// Whether silence means anything: heartbeats come to others too, who tell by the store.
    fn is_silence_known(&self, writer: &mut Writer) -> bool {
        if !self.store.is_shared() {
            return true;
        }
        if self.store.problem().is_some() {
            writer.is_troubled = true;
            return false;
        }
        if writer.is_troubled {
            writer.is_troubled = false;
            self.inner().state.give_grace(self.now());
            info!("the store is back: leases of instances begin anew");
        }
        true
    }

    /// A store of its own that takes nothing, on a full disk say: silence counts all the same.
    fn go_on_without(&self, changes: Vec<Becomes>) {
        if self.store.is_shared() {
            return;
        }
        let mut inner = self.inner();
        let known = changes.into_iter().filter(|(id, becomes)| {
            let was = inner.state.held(id).map(|held| held.instance.phase);
            becomes.as_ref().is_some_and(|becomes| {
                was.is_some_and(|was| was.is_silent() != becomes.phase.is_silent())
            })
        });
        let known: Vec<Becomes> = known.collect();
        let others = inner.state.become_all(known, self.now());
        self.changed(&mut inner, &others);
    }

    /// Who registers is there.
    fn heed(&self, asks: &[Ask], decided: &[Result<Done, Refused>]) {
        let mut inner = self.inner();
        let now = self.now();
        for (ask, decided) in asks.iter().zip(decided) {
            if let (Wish::Register(registration), Ok(_)) = (&ask.wish, decided) {
                let service = registration.service.as_str();
                inner.state.begin(service, &registration.endpoint.id, now);
            }
        }
    }

    fn now(&self) -> Now {
        clock::both(self.began.elapsed())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_kept(error: &Arc<StoreError>) -> Refused {
    Refused::Store(Arc::clone(error))
}
