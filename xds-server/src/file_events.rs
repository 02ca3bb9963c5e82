//! When to look at files again: by events of their folders (editors and ConfigMaps replace files by
//! rename, which a watch on the file itself would miss) and by a slow re-read for file systems that send
//! none. A trigger carries no data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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

/// Device and inode: a folder that is replaced keeps its name and loses its watch.
type Identity = (u64, u64);

/// Triggers of some folders.
pub struct FileEvents {
    changed: Arc<Notify>,
    reread: Interval,
    watcher: Option<RecommendedWatcher>,
    /// Folders to watch, and which of them is being watched.
    folders: BTreeMap<PathBuf, Option<Identity>>,
}

impl FileEvents {
    /// Of no folder yet.
    pub fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let mut reread = tokio::time::interval(REREAD_EVERY);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            watcher: watcher(&changed),
            changed,
            reread,
            folders: BTreeMap::new(),
        }
    }

    /// Watches a folder, not what lies deeper.
    pub fn of_folder(folder: &Path) -> Self {
        let mut events = Self::new();
        events.watch(&BTreeSet::from([folder.to_path_buf()]));
        events
    }

    /// Watches these folders and no others. Without events (a full inotify table, say, or a folder that is
    /// not there) the periodic re-read remains.
    pub fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        let gone = |folder: &&PathBuf| !folders.contains(*folder);
        let gone: Vec<PathBuf> = self.folders.keys().filter(gone).cloned().collect();
        for folder in gone {
            if let (Some(Some(_)), Some(watcher)) =
                (self.folders.remove(&folder), &mut self.watcher)
            {
                // It fails for a folder that is gone, and with it its watch.
                let _ = watcher.unwatch(&folder);
            }
        }
        for folder in folders {
            self.folders.entry(folder.clone()).or_insert(None);
        }
        self.watch_anew();
    }

    /// The next time to look; the first one is now.
    pub async fn next(&mut self) {
        tokio::select! {
            () = self.changed.notified() => {}
            _ = self.reread.tick() => {}
        }
        self.watch_anew();
    }

    /// Watches what is not watched yet, and what was replaced since.
    fn watch_anew(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for (folder, watched) in &mut self.folders {
            let metadata = fs::metadata(folder).ok();
            let identity = metadata.map(|folder| (folder.dev(), folder.ino()));
            if *watched == identity {
                continue;
            }
            if watched.take().is_some() {
                let _ = watcher.unwatch(folder);
            }
            if identity.is_some() && watcher.watch(folder, RecursiveMode::NonRecursive).is_ok() {
                *watched = identity;
            }
        }
    }
}

impl Default for FileEvents {
    fn default() -> Self {
        Self::new()
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

fn watcher(changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let changed = Arc::clone(changed);
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event as well; our own reads must not wake us.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    })
    .inspect_err(|error| warn!(%error, "no file events: re-reading every 2 s instead"))
    .ok()
}
