//! Tells those who follow a log that there is more, and gives it to them in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tracing::warn;

use super::{Entry, StoreError};

/// Entries held for those who follow; who is further behind reads everything anew.
const ENTRIES_MAX: usize = 64;
/// The same in bytes; the newest entry is held whatever its size.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Between two looks at a store that does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What came after a revision.
#[derive(Debug)]
pub enum Since {
    /// These, in order; none when that revision is the newest.
    Entries(Vec<Arc<Entry>>),
    /// More than is held, or the log was set back: read everything anew.
    Unknown,
}

/// Of one log.
#[derive(Debug)]
pub struct Feed {
    newest: watch::Sender<u64>,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// Without gaps, up to the newest.
    entries: VecDeque<(usize, Arc<Entry>)>,
    bytes: usize,
}

impl Feed {
    /// Of a log whose newest revision is this.
    pub(super) fn at(revision: u64) -> Self {
        Self {
            newest: watch::Sender::new(revision),
            recent: Mutex::default(),
        }
    }

    /// The newest revision. It carries no data: look with [`Self::since`].
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Has what comes taken up, for ever, where it may wait for the store; end it by dropping it. `what` is what the
    /// log is of, in words.
    pub async fn follow(
        &self,
        what: &'static str,
        take: impl Fn() -> Result<(), StoreError> + Clone + Send + 'static,
    ) {
        let mut newest = self.newest();
        loop {
            newest.mark_unchanged();
            match tokio::task::spawn_blocking(take.clone()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(%error, "the store's newest {what} cannot be had yet");
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
                // The runtime is going.
                Err(_) => return,
            }
            if newest.changed().await.is_err() {
                return;
            }
        }
    }

    /// The newest revision, now.
    pub fn revision(&self) -> u64 {
        *self.newest.borrow()
    }

    /// What came after a revision.
    pub fn since(&self, after: u64) -> Since {
        let recent = self.recent();
        let newest = *self.newest.borrow();
        if after == newest {
            return Since::Entries(Vec::new());
        }
        match recent.entries.front() {
            Some((_, first)) if after < newest && first.revision <= after + 1 => {
                let entries = recent.entries.iter().map(|(_, entry)| entry);
                let later = entries.filter(|entry| entry.revision > after);
                Since::Entries(later.cloned().collect())
            }
            _ => Since::Unknown,
        }
    }

    /// Takes the next entry; whether it was one. One that is known already is left out.
    pub(super) fn push(&self, entry: Arc<Entry>) -> bool {
        let mut recent = self.recent();
        let (known, revision) = (*self.newest.borrow(), entry.revision);
        if revision <= known {
            return false;
        }
        if revision > known + 1 {
            recent.entries.clear();
            recent.bytes = 0;
        }
        let size = entry.size();
        recent.bytes += size;
        recent.entries.push_back((size, entry));
        while recent.entries.len() > 1
            && (recent.entries.len() > ENTRIES_MAX || recent.bytes > BYTES_MAX)
        {
            let gone = recent.entries.pop_front();
            recent.bytes -= gone.map_or(0, |(size, _)| size);
        }
        self.newest.send_replace(revision);
        true
    }

    /// The log is at this revision, and how it came there is not known.
    pub(super) fn jump(&self, revision: u64) {
        let mut recent = self.recent();
        recent.entries.clear();
        recent.bytes = 0;
        self.newest.send_replace(revision);
    }

    /// The log is at this revision at least.
    pub(super) fn is_at_least(&self, revision: u64) {
        let mut recent = self.recent();
        if *self.newest.borrow() < revision {
            recent.entries.clear();
            recent.bytes = 0;
            self.newest.send_replace(revision);
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use policy::time::WallTime;

    use super::*;
    use crate::store::{About, Change};

    fn entry(revision: u64, bytes: usize) -> Arc<Entry> {
        Arc::new(Entry {
            revision,
            about: About::of_api(WallTime::from_unix_millis(0)),
            changes: vec![Change {
                key: "".into(),
                value: Some("x".repeat(bytes).into()),
            }],
        })
    }

    fn since(feed: &Feed, after: u64) -> Option<Vec<u64>> {
        match feed.since(after) {
            Since::Entries(entries) => Some(entries.iter().map(|entry| entry.revision).collect()),
            Since::Unknown => None,
        }
    }

    #[test]
    fn who_follows_gets_all_in_order_or_is_told_to_read_anew() {
        let feed = Feed::at(4);
        assert_eq!(since(&feed, 4), Some(vec![]));
        assert_eq!(since(&feed, 3), None, "it was never here");
        for revision in 5..=7 {
            feed.push(entry(revision, 1));
        }
        feed.push(entry(6, 1));
        assert_eq!(since(&feed, 4), Some(vec![5, 6, 7]));
        assert_eq!(since(&feed, 6), Some(vec![7]));
        assert_eq!(since(&feed, 8), None, "set back");
        feed.push(entry(9, 1));
        assert_eq!(since(&feed, 7), None, "a gap");
        assert_eq!(since(&feed, 8), Some(vec![9]));
        feed.jump(2);
        assert_eq!((since(&feed, 9), since(&feed, 2)), (None, Some(vec![])));
    }

    #[test]
    fn what_is_held_is_bounded_by_number_and_bytes_and_the_newest_is_always_there() {
        let feed = Feed::at(0);
        for revision in 1..=100 {
            feed.push(entry(revision, 1));
        }
        assert_eq!(since(&feed, 35), None);
        assert_eq!(since(&feed, 36).map(|all| all.len()), Some(ENTRIES_MAX));
        feed.push(entry(101, BYTES_MAX + 1));
        assert_eq!(
            (since(&feed, 99), since(&feed, 100)),
            (None, Some(vec![101]))
        );
    }
}
