//! Clients that do not read. Such a client holds no more than the response that it does not read, so it
//! harms nobody; after a bound it is cut all the same, since it will never come to the newest state.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::connection;
use crate::{
    metrics::{self, Metrics},
    publish::Update,
};

/// A client that has not taken a newer state up for so long is cut, and its connection with it.
const SLOW_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One stream, as it is looked at.
struct Watched {
    updates: watch::Receiver<Update>,
    taken_up: Arc<AtomicU64>,
    cut: Arc<connection::Cut>,
    /// Since when it is behind without having taken anything up, and what it had then.
    behind: Option<(Instant, u64)>,
}

/// Every stream that is looked at, by its number.
#[derive(Default)]
pub(super) struct Readers {
    streams: Mutex<HashMap<u64, Watched>>,
}

/// A stream's own end.
pub(super) struct Reader {
    number: u64,
    taken_up: Arc<AtomicU64>,
    readers: Arc<Readers>,
}

impl Readers {
    /// Looks at a stream until its end is dropped.
    pub(super) fn add(
        self: &Arc<Self>,
        number: u64,
        updates: watch::Receiver<Update>,
        cut: Arc<connection::Cut>,
    ) -> Reader {
        let taken_up = Arc::new(AtomicU64::new(updates.borrow().number));
        let watched = Watched {
            updates,
            taken_up: Arc::clone(&taken_up),
            cut,
            behind: None,
        };
        self.lock().insert(number, watched);
        Reader {
            number,
            taken_up,
            readers: Arc::clone(self),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Watched>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts who does not read, for ever.
    pub(super) async fn watch(&self, metrics: &Metrics) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Instant::now();
            for (number, watched) in &mut *self.lock() {
                if watched.is_slow(now) {
                    metrics.cut(metrics::Cut::SlowReader);
                    warn!(stream = number, "cut: it did not read for 60 s");
                    watched.cut.cut();
                }
            }
        }
    }
}

impl Watched {
    fn is_slow(&mut self, now: Instant) -> bool {
        let taken_up = self.taken_up.load(Relaxed);
        if taken_up == self.updates.borrow().number {
            self.behind = None;
            return false;
        }
        let (since, had) = *self.behind.get_or_insert((now, taken_up));
        if had != taken_up {
            self.behind = Some((now, taken_up));
            return false;
        }
        now.saturating_duration_since(since) >= SLOW_MAX
    }
}

impl Reader {
    /// The stream took this update up.
    pub(super) fn took_up(&self, number: u64) {
        self.taken_up.store(number, Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::View;

    fn update(number: u64) -> Update {
        Update {
            view: Arc::new(View::default()),
            since: Instant::now(),
            number,
        }
    }

    #[tokio::test]
    async fn who_stands_still_behind_a_newer_state_is_slow_and_who_moves_is_not() {
        let (updates, receiver) = watch::channel(update(1));
        let readers = Arc::new(Readers::default());
        let reader = readers.add(7, receiver, Arc::default());
        let begin = Instant::now();
        let is_slow = |seconds: u64| {
            let mut streams = readers.lock();
            let watched = streams.get_mut(&7).unwrap();
            watched.is_slow(begin + Duration::from_secs(seconds))
        };
        assert!(!is_slow(1_000), "there is nothing new");
        updates.send_replace(update(2));
        assert!(!is_slow(1_005));
        updates.send_replace(update(3));
        assert!(!is_slow(1_064));
        reader.took_up(2);
        assert!(!is_slow(1_066), "it moves, though it is still behind");
        assert!(!is_slow(1_120));
        assert!(is_slow(1_126));
        drop(reader);
        assert!(readers.lock().is_empty());
    }
}
