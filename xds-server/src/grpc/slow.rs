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

use tokio::time::Instant;

use super::{
    Discovery, connection,
    notices::{About, Bound},
};
use crate::{fleet::StreamStatus, metrics::Cut, publish::latest::Latest};

/// A client that has not taken a newer state up for so long is cut, and its connection with it.
const SLOW_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One stream, as it is looked at.
struct Watched {
    latest: Arc<Latest>,
    taken_up: Arc<AtomicU64>,
    cut: Arc<connection::Cut>,
    status: Arc<StreamStatus>,
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
        latest: Arc<Latest>,
        cut: Arc<connection::Cut>,
        status: Arc<StreamStatus>,
    ) -> Reader {
        let number = status.number;
        let taken_up = Arc::new(AtomicU64::new(latest.number()));
        let watched = Watched {
            latest,
            taken_up: Arc::clone(&taken_up),
            cut,
            status,
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
}

/// Cuts who does not read, for ever.
pub(super) async fn watch(discovery: &Discovery) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Instant::now();
        for watched in discovery.readers.lock().values_mut() {
            if watched.is_slow(now) {
                let text = "it has not taken a newer state up for so long";
                let about = About::stream(&watched.status, text);
                let bound = Some(Bound::Time(SLOW_MAX));
                discovery.cut(Cut::SlowReader, &About { bound, ..about });
                watched.cut.cut();
            }
        }
    }
}

impl Watched {
    fn is_slow(&mut self, now: Instant) -> bool {
        let taken_up = self.taken_up.load(Relaxed);
        if taken_up == self.latest.number() {
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
    use crate::publish::latest::tests::{latest, put};

    #[test]
    fn who_stands_still_behind_a_newer_state_is_slow_and_who_moves_is_not() {
        let latest = latest(1);
        let readers = Arc::new(Readers::default());
        let status = crate::proxies::imagined::stream("edge-1", "edge", &Arc::default(), &[]);
        let number = status.number;
        let reader = readers.add(Arc::clone(&latest), Arc::default(), status);
        let begin = Instant::now();
        let is_slow = |seconds: u64| {
            let mut streams = readers.lock();
            let watched = streams.get_mut(&number).unwrap();
            watched.is_slow(begin + Duration::from_secs(seconds))
        };
        assert!(!is_slow(1_000), "there is nothing new");
        put(&latest, 2);
        assert!(!is_slow(1_005));
        put(&latest, 3);
        assert!(!is_slow(1_064));
        reader.took_up(2);
        assert!(!is_slow(1_066), "it moves, though it is still behind");
        assert!(!is_slow(1_120));
        assert!(is_slow(1_126));
        drop(reader);
        assert!(readers.lock().is_empty());
    }
}
