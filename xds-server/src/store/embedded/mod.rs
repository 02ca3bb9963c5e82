//! The store of a server alone: one redb file in its state dir. A revision is one transaction, synced to
//! disk, so its cost is that of what it changes. A disk that refuses changes nothing: the database is opened
//! anew with the next call, and until then everybody goes on with what they have.

mod earlier;
mod look;
mod place;
mod remains;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase};
use tracing::{info, warn};

use self::place::FILE;
pub use self::remains::Remains;
use super::{About, Change, Draft, Entry, Feed, Log, Secret, State, Store, StoreError};

/// What it holds is in memory already; the default is 1 GiB.
const CACHE_BYTES: usize = 1024 * 1024;

/// What became of a file that was read page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// It is what was written.
    Whole,
    /// What a crash left half done was taken back.
    Mended,
}

struct Problem {
    told: String,
    /// How many the largest of the writes had that failed since one was done.
    bytes: usize,
}

/// One file that this process alone has open.
pub struct Embedded {
    path: PathBuf,
    /// None after a failure, until the next call.
    database: Mutex<Option<Database>>,
    feeds: [Feed; Log::ALL.len()],
    /// Of the newest call, if it failed.
    problem: Mutex<Option<Problem>>,
    /// Who holds a lease, and until when. The file is this process's alone, and so are they.
    leases: Mutex<BTreeMap<String, (String, Instant)>>,
}

impl Embedded {
    /// Opens the file in a folder, or makes both, once all of it was read. What an earlier version kept there is taken
    /// in. Only its owner may read it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server runs there; [`StoreError::Lost`] when there was one; [`StoreError::Damaged`]
    /// when it is not what was written, and then it stays as it is; a disk that refuses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = place::made(folder)?;
        if look::through(&path)? == Integrity::Mended {
            warn!(
                path = %path.display(),
                "the newest write was not whole on disk, as a power cut leaves it, and is taken back; where there was none \
                 the disk lost it: compare `mumbai-mesh history` with what you know, and look at the disk"
            );
        }
        let database = open(&path)?;
        let newest = earlier::take_in(&database, folder).map_err(|error| broken(&path, &error))?;
        place::note_made(folder);
        Ok(Self {
            path,
            database: Mutex::new(Some(database)),
            feeds: newest.map(Feed::at),
            problem: Mutex::default(),
            leases: Mutex::default(),
        })
    }

    /// Reads all of a folder's file, page by page, and changes nothing.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn verify(folder: &Path) -> Result<Integrity, StoreError> {
        if let Some(lost) = place::lost(folder) {
            return Err(lost);
        }
        match place::is_there(folder) {
            true => look::through(&folder.join(FILE)),
            false => Ok(Integrity::Whole),
        }
    }

    /// What can be read of a folder's file that is damaged.
    ///
    /// # Errors
    /// When another server runs there; when it cannot be read at all.
    pub fn remains(folder: &Path) -> Result<Remains, StoreError> {
        remains::of(&folder.join(FILE))
    }

    /// Whether a folder has one, of this version or an earlier one.
    pub fn is_there(folder: &Path) -> bool {
        place::is_there(folder) || earlier::is_there(folder)
    }

    /// Why nobody begins anew in a folder that had a store and has none.
    pub fn lost(folder: &Path) -> Option<StoreError> {
        place::lost(folder)
    }

    /// The same of one that is to move into an etcd, or did.
    pub fn lost_before_it_moved(folder: &Path) -> Option<StoreError> {
        place::lost_before_it_moved(folder)
    }

    /// Renames the file of a folder: it is not used any more.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(folder: &Path) -> io::Result<()> {
        place::set_aside(folder)
    }

    /// Something that is read.
    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut held = self.lock();
        let found = self.opened(&mut held).and_then(|database| {
            let transaction = database.begin_read().map_err(redb::Error::from);
            let found = transaction.and_then(|transaction| read(&transaction));
            found.map_err(|error| broken(&self.path, &error))
        });
        if found.is_err() {
            *held = None;
        }
        found
    }

    /// The database, opened anew after a failure. What is on disk then is what holds: a failed write may have
    /// reached it.
    fn opened<'d>(&self, held: &'d mut Option<Database>) -> Result<&'d Database, StoreError> {
        let database = match held.take() {
            Some(database) => database,
            None => {
                let database = open(&self.path)?;
                let newest =
                    tables::newest(&database).map_err(|error| broken(&self.path, &error))?;
                for (feed, on_disk) in self.feeds.iter().zip(newest) {
                    if feed.revision() != on_disk {
                        warn!(on_disk, known = feed.revision(), "the store is read anew");
                        feed.jump(on_disk);
                    }
                }
                database
            }
        };
        Ok(held.insert(database))
    }

    fn opened_to_write<'d>(
        &self,
        held: &'d mut Option<Database>,
        bytes: usize,
    ) -> Result<&'d Database, StoreError> {
        let opened = self.opened(held);
        opened.inspect_err(|error| self.note(Some(error), bytes))
    }

    /// What became of a write. After an I/O error the database refuses everything, and its pages in memory are
    /// not to be trusted: what is on disk is.
    fn written(
        &self,
        held: &mut Option<Database>,
        written: Result<(), redb::Error>,
        bytes: usize,
    ) -> Result<(), StoreError> {
        let written = written.map_err(|error| broken(&self.path, &error));
        if written.is_err() {
            *held = None;
        }
        self.note(written.as_ref().err(), bytes);
        written
    }

    fn note(&self, problem: Option<&StoreError>, bytes: usize) {
        let mut noted = self.noted();
        let before = noted.as_ref().map_or(0, |problem| problem.bytes);
        *noted = problem.map(|error| Problem {
            told: error.to_string(),
            bytes: bytes.max(before),
        });
    }

    fn noted(&self) -> MutexGuard<'_, Option<Problem>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Embedded {
    fn append(&self, log: Log, after: u64, draft: Draft) -> Result<u64, StoreError> {
        let mut held = self.lock();
        let bytes = draft.changes.iter().map(Change::size).sum();
        let database = self.opened_to_write(&mut held, bytes)?;
        let newest = self.feed(log).revision();
        if newest != after {
            return Err(StoreError::Moved { newest });
        }
        let entry = Entry {
            revision: after + 1,
            about: draft.about,
            changes: draft.changes,
        };
        let written = tables::write(database, log, &entry);
        self.written(&mut held, written, bytes)?;
        self.feed(log).push(Arc::new(entry));
        Ok(after + 1)
    }

    fn seed(&self, log: Log, entries: Vec<Entry>) -> Result<(), StoreError> {
        let mut held = self.lock();
        let bytes = entries.iter().map(Entry::size).sum();
        let database = self.opened_to_write(&mut held, bytes)?;
        let newest = self.feed(log).revision();
        if newest != 0 {
            return Err(StoreError::Moved { newest });
        }
        let Some(last) = entries.last().map(|entry| entry.revision) else {
            return Ok(());
        };
        let written = tables::write_all(database, log, &entries);
        self.written(&mut held, written, bytes)?;
        self.feed(log).jump(last);
        Ok(())
    }

    fn load(&self, log: Log) -> Result<State, StoreError> {
        self.read(|transaction| tables::state(transaction, log))
    }

    fn kept(&self, log: Log, revision: u64) -> Result<Option<State>, StoreError> {
        self.read(|transaction| tables::whole(transaction, log, revision))
    }

    fn history(
        &self,
        log: Log,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, About)>, StoreError> {
        self.read(|transaction| tables::history(transaction, log, before, limit))
    }

    fn catch_up(&self, _: Log) -> Result<(), StoreError> {
        // Nobody else appends.
        Ok(())
    }

    fn feed(&self, log: Log) -> &Feed {
        match log {
            Log::Mesh => &self.feeds[0],
            Log::Resources => &self.feeds[1],
            Log::Instances => &self.feeds[2],
            Log::Proxies => &self.feeds[3],
        }
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn problem(&self) -> Option<String> {
        self.noted().as_ref().map(|problem| problem.told.clone())
    }

    fn try_again(&self) {
        let Some(bytes) = self.noted().as_ref().map(|problem| problem.bytes) else {
            return;
        };
        let mut held = self.lock();
        let Ok(database) = self.opened_to_write(&mut held, bytes) else {
            return;
        };
        let tried = tables::try_room(database, bytes);
        if self.written(&mut held, tried, bytes).is_ok() {
            info!("the store serves again");
        }
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        self.read(|transaction| tables::secret(transaction, name))
    }

    fn keep_secret(&self, name: &str, after: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let newest = self.secret(name)?.map_or(0, |secret| secret.version);
        if newest != after {
            return Err(StoreError::Moved { newest });
        }
        let mut held = self.lock();
        let database = self.opened_to_write(&mut held, bytes.len())?;
        let written = tables::keep_secret(database, name, after + 1, bytes);
        self.written(&mut held, written, bytes.len())?;
        Ok(after + 1)
    }

    fn hold(&self, name: &str, holder: &str, span: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let held = leases.get(name);
        let is_free = held.is_none_or(|(by, until)| by == holder || *until <= now);
        if is_free {
            leases.insert(name.into(), (holder.into(), now + span));
        }
        Ok(is_free)
    }

    fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if leases.get(name).is_some_and(|(by, _)| by == holder) {
            leases.remove(name);
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
    opened.map_err(|error| unopened(path, error))
}

fn unopened(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.into()),
        other => broken(path, &other.into()),
    }
}

fn broken(path: &Path, error: &redb::Error) -> StoreError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let (place, why) = (path.display().to_string(), error.to_string());
    match error {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => {
            StoreError::Damaged { place, why }
        }
        // It is no database at all.
        redb::Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => {
            StoreError::Damaged { place, why }
        }
        redb::Error::Io(io) if matches!(io.kind(), StorageFull | FileTooLarge | QuotaExceeded) => {
            StoreError::Full { place, why }
        }
        _ => StoreError::Broken { place, why },
    }
}
