//! When to look at files again: by events of their folder (editors and ConfigMaps replace files by
//! rename, which a watch on the file itself would miss) and by a slow re-read for file systems that send
//! none. A trigger carries no data.

use std::{path::Path, sync::Arc, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior},
};
use tracing::warn;

const REREAD_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at a file that changes.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
const SETTLE_LOOKS: u32 = 20;

/// Triggers of one folder.
pub struct FileEvents {
    changed: Arc<Notify>,
    reread: Interval,
    _watcher: Option<RecommendedWatcher>,
}

impl FileEvents {
    /// Watches a folder, not what lies deeper. Without events (a full inotify table, say) the periodic
    /// re-read remains.
    pub fn of_folder(folder: &Path) -> Self {
        let changed = Arc::new(Notify::new());
        let mut reread = tokio::time::interval(REREAD_EVERY);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            _watcher: watch(folder, &changed),
            changed,
            reread,
        }
    }

    /// The next time to look; the first one is now.
    pub async fn next(&mut self) {
        tokio::select! {
            () = self.changed.notified() => {}
            _ = self.reread.tick() => {}
        }
    }
}

/// What `look` finds once it is not `known`. A file that is written in place is read whole only when its
/// writer is done: two looks must agree, or patience ends and the next trigger decides.
pub async fn settled<T: PartialEq>(known: &T, mut look: impl AsyncFnMut() -> T) -> T {
    let mut before = look().await;
    if before == *known {
        return before;
    }
    for _ in 0..SETTLE_LOOKS {
        tokio::time::sleep(SETTLE_PAUSE).await;
        let now = look().await;
        if now == before {
            return now;
        }
        before = now;
    }
    before
}

fn watch(folder: &Path, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let started = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event as well; our own reads must not wake us.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    })
    .and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    started
        .inspect_err(|error| warn!(%error, "no file events: re-reading every 2 s instead"))
        .ok()
}
