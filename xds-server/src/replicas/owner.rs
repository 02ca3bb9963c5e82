//! Owner of what servers on one store tell each other: says that this server is there, asks for who waits here, and
//! answers what others ask.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, info};

use super::{Heard, State, Told, Wait, WaitId};
use crate::{
    clock,
    fleet::Fleet,
    proxies::rollout::{Blame, Look, Rejected, look},
    publish::Publisher,
    store::{About, Change, Draft, Log, Since, Store, StoreError},
};

/// A server that says nothing for so long is gone.
const HERE_FOR: Duration = Duration::from_secs(10);
/// How often it says so.
const SAID_EVERY: Duration = Duration::from_secs(3);
/// Between two looks at the proxies of this server while another one waits.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many have not answered yet is told at most so often; that all have, or that one rejects, at once.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Others write too; who always comes second gives up.
const TRIES_MAX: usize = 20;

/// The servers on one store.
pub struct Replicas {
    store: Arc<dyn Store>,
    me: String,
    state: Mutex<State>,
    asked: Notify,
}

/// Of something that another server waits for.
struct Watched {
    since: u64,
    before: Rejected,
    done: HashSet<u64>,
    told: Option<(Told, Instant)>,
}

impl Replicas {
    /// With what the store holds.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let me = format!("{:016x}", fastrand::u64(..));
        let mut state = State::new(&me);
        if store.is_shared() {
            state.load(&store.load(Log::Proxies)?);
        }
        Ok(Self {
            store,
            me,
            state: Mutex::new(state),
            asked: Notify::new(),
        })
    }

    /// Asks the other servers what their proxies make of a revision; none where the store is this server's own. Waits
    /// for the store.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn ask(&self, wait: Wait) -> Result<Option<WaitId>, StoreError> {
        if !self.store.is_shared() {
            return Ok(None);
        }
        let (id, rows) = self.state().begin(wait);
        match self.write(&rows) {
            Ok(()) => Ok(Some(id)),
            Err(error) => {
                self.end(&id);
                Err(error)
            }
        }
    }

    /// What they told so far.
    pub fn heard(&self, id: &WaitId) -> Heard {
        self.state().heard(id)
    }

    /// Nobody waits any more. Waits for the store.
    pub fn end(&self, id: &WaitId) {
        let rows = self.state().end(id);
        if let Err(error) = self.write(&rows) {
            debug!(%error, "the store does not take the end of a wait yet");
        }
    }

    /// Answers and asks, for ever.
    pub async fn run(self: Arc<Self>, publisher: Arc<Publisher>, fleet: Arc<Fleet>) {
        if !self.store.is_shared() {
            return std::future::pending().await;
        }
        let following = {
            let replicas = Arc::clone(&self);
            let take = move || replicas.take();
            let feed = self.store.feed(Log::Proxies);
            async move { feed.follow("words of other servers", take).await }
        };
        tokio::select! {
            () = following => {}
            () = Arc::clone(&self).keep(publisher.published_mesh()) => {}
            () = Arc::clone(&self).answer(publisher, fleet) => {}
        }
    }

    /// Says again and again that this server is there, and looks which others are not any more. Not before there is a
    /// mesh: until then an etcd is empty, and what a server kept alone may move into it.
    async fn keep(self: Arc<Self>, mut mesh: watch::Receiver<u64>) {
        // An error is the server's end.
        let _ = mesh.wait_for(|revision| *revision > 0).await;
        let mut again = interval(SAID_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            let replicas = Arc::clone(&self);
            match spawn_blocking(move || replicas.keep_once()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "it cannot be told which servers are there"),
                // The runtime is going.
                Err(_) => return,
            }
        }
    }

    fn keep_once(&self) -> Result<(), StoreError> {
        if !self.store.hold(&lease_of(&self.me), &self.me, HERE_FOR)? {
            // While we were away another one said that we are gone; its word ends soon.
            return Ok(());
        }
        let mut rows = {
            let state = self.state();
            [state.arrival(), state.leftovers()].concat()
        };
        let others: Vec<Arc<str>> = self.state().others().cloned().collect();
        let mut left = Vec::new();
        for other in others {
            if self.store.hold(&lease_of(&other), &self.me, HERE_FOR)? {
                info!(server = %other, "a server is gone: nobody waits for its proxies");
                left.push(other);
            }
        }
        rows.extend(self.state().leave(&left));
        self.write(&rows)?;
        // One that was away only may say that it is there again.
        let mut left = left.iter();
        left.try_for_each(|other| self.store.release(&lease_of(other), &self.me))
    }

    async fn answer(self: Arc<Self>, publisher: Arc<Publisher>, fleet: Arc<Fleet>) {
        let mut again = interval(LOOK_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = BTreeMap::new();
        loop {
            if self.state().asked().is_empty() {
                self.asked.notified().await;
            }
            again.tick().await;
            let (replicas, publisher) = (Arc::clone(&self), Arc::clone(&publisher));
            let fleet = Arc::clone(&fleet);
            let before = mem::take(&mut watched);
            let answering =
                spawn_blocking(move || replicas.answer_once(&publisher, &fleet, before));
            match answering.await {
                Ok(after) => watched = after,
                // The runtime is going.
                Err(_) => return,
            }
        }
    }

    /// Looks at the proxies of this server once for each that waits, and tells what is new. Waits for the store.
    fn answer_once(
        &self,
        publisher: &Publisher,
        fleet: &Fleet,
        mut before: BTreeMap<WaitId, Watched>,
    ) -> BTreeMap<WaitId, Watched> {
        let published = *publisher.published_mesh().borrow();
        let mut watched = BTreeMap::new();
        let mut news = Vec::new();
        let asked = self.state().asked();
        for (id, wait) in asked {
            if published < wait.revision {
                continue;
            }
            let one = before.remove(&id);
            let mut one = one.unwrap_or_else(|| Watched::begin(wait, publisher, fleet));
            if let Some(told) = one.look(publisher, fleet) {
                news.push((id.clone(), told));
            }
            watched.insert(id, one);
        }
        let rows: Vec<Change> = {
            let state = self.state();
            let rows = news.iter().map(|(id, told)| state.answer(id, told));
            rows.collect()
        };
        match self.write(&rows) {
            Ok(()) => {
                for (id, told) in news {
                    if let Some(one) = watched.get_mut(&id) {
                        one.told = Some((told, Instant::now()));
                    }
                }
            }
            // The next look tells it again.
            Err(error) => debug!(%error, "the store does not take an answer yet"),
        }
        watched
    }

    /// Writes rows, whatever others write meanwhile.
    fn write(&self, rows: &[Change]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            let after = self.state().revision();
            let draft = Draft {
                about: About::of_api(clock::now()),
                changes: rows.to_vec(),
            };
            tries += 1;
            match self.store.append(Log::Proxies, after, draft) {
                Ok(_) => return self.take(),
                Err(StoreError::Moved { .. }) if tries < TRIES_MAX => {
                    self.store.catch_up(Log::Proxies)?;
                    self.take()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes up what the store has beyond what is known.
    fn take(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        match self.store.feed(Log::Proxies).since(state.revision()) {
            Since::Entries(entries) => {
                for entry in entries {
                    state.apply(entry.revision, &entry.changes);
                }
            }
            Since::Unknown => {
                let kept = self.store.load(Log::Proxies)?;
                state.load(&kept);
            }
        }
        if !state.asked().is_empty() {
            self.asked.notify_one();
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Of what was rejected before the change nothing is held against it, as where it was made.
    fn begin(wait: Wait, publisher: &Publisher, fleet: &Fleet) -> Self {
        let since = publisher.update_of(wait.revision);
        let streams = fleet.streams();
        let streams = streams.iter().map(|stream| &**stream);
        let before = match wait.is_new {
            true => Rejected::earlier_than(since, streams),
            false => Rejected::by(streams),
        };
        Self {
            since,
            before,
            done: HashSet::new(),
            told: None,
        }
    }

    /// What is to be told now.
    fn look(&mut self, publisher: &Publisher, fleet: &Fleet) -> Option<Told> {
        let blame = Blame {
            since: self.since,
            before: &self.before,
        };
        let done = mem::take(&mut self.done);
        let found: Look = look(&fleet.streams(), &publisher.views(), blame, done);
        let told = Told::of(&found);
        self.done = found.done;
        let is_due = match &self.told {
            None => true,
            Some((before, at)) => {
                told != *before && (told.is_news_after(before) || at.elapsed() >= TOLD_EVERY)
            }
        };
        is_due.then_some(told)
    }
}

fn lease_of(server: &str) -> String {
    format!("replicas/{server}")
}
