//! The store of a server alone: one redb file in its state dir. A revision is one transaction, synced to
//! disk, so its cost is that of what it changes. A disk that refuses changes nothing: the database is opened
//! anew with the next call, and until then everybody goes on with what they have.

mod earlier;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, TableDefinition, TableError,
    WriteTransaction,
};
use tracing::warn;

use super::{About, Draft, Entry, Feed, KEPT, Log, Secret, State, Store, StoreError};

/// Log -> its newest revision.
const NEWEST: TableDefinition<'_, &str, u64> = TableDefinition::new("newest");
/// Log and revision -> who, when and why, as JSON.
const ABOUT: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("about");
/// Name of a secret -> its version and bytes.
const SECRETS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("secrets");
/// Of logs whose revisions are changes: log and key -> value.
const VALUES: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("values");
/// Of logs whose revisions are wholes: log, revision and key -> value.
const WHOLES: TableDefinition<'_, (&str, u64, &str), &str> = TableDefinition::new("wholes");

const FILE: &str = "mumbai-mesh.redb";
/// What it holds is in memory already; the default is 1 GiB.
const CACHE_BYTES: usize = 1024 * 1024;

/// One file that this process alone has open.
pub struct Embedded {
    path: PathBuf,
    /// None after a failure, until the next call.
    database: Mutex<Option<Database>>,
    feeds: [Feed; Log::ALL.len()],
    /// Of the newest call, if it failed.
    problem: Mutex<Option<String>>,
    /// Who holds a lease, and until when. The file is this process's alone, and so are they.
    leases: Mutex<BTreeMap<String, (String, Instant)>>,
}

impl Embedded {
    /// Opens the file in a folder, or makes both. What an earlier version kept there is taken in. Only its
    /// owner may read it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server runs there; a disk that refuses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        fs::create_dir_all(folder).map_err(|error| broken(folder, &redb::Error::Io(error)))?;
        let made = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        made.map_err(|error| broken(&path, &redb::Error::Io(error)))?;
        let database = open(&path)?;
        let newest = earlier::take_in(&database, folder).map_err(|error| broken(&path, &error))?;
        Ok(Self {
            path,
            database: Mutex::new(Some(database)),
            feeds: newest.map(Feed::at),
            problem: Mutex::default(),
            leases: Mutex::default(),
        })
    }

    /// Whether a folder has one, of this version or an earlier one.
    pub fn is_there(folder: &Path) -> bool {
        folder.join(FILE).exists() || earlier::is_there(folder)
    }

    /// Renames the file of a folder: it is not used any more.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(folder: &Path) -> io::Result<()> {
        fs::rename(folder.join(FILE), folder.join(format!("{FILE}.moved")))
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
                let newest = newest(&database).map_err(|error| broken(&self.path, &error))?;
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
    ) -> Result<&'d Database, StoreError> {
        let opened = self.opened(held);
        opened.inspect_err(|error| self.note(Some(error)))
    }

    /// What became of a write. After an I/O error the database refuses everything, and its pages in memory are
    /// not to be trusted: what is on disk is.
    fn written(
        &self,
        held: &mut Option<Database>,
        written: Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let written = written.map_err(|error| broken(&self.path, &error));
        if written.is_err() {
            *held = None;
        }
        self.note(written.as_ref().err());
        written
    }

    fn note(&self, problem: Option<&StoreError>) {
        let mut noted = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = problem.map(ToString::to_string);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Embedded {
    fn append(&self, log: Log, after: u64, draft: Draft) -> Result<u64, StoreError> {
        let mut held = self.lock();
        let database = self.opened_to_write(&mut held)?;
        let newest = self.feed(log).revision();
        if newest != after {
            return Err(StoreError::Moved { newest });
        }
        let entry = Entry {
            revision: after + 1,
            about: draft.about,
            changes: draft.changes,
        };
        let written = write(database, log, &entry);
        self.written(&mut held, written)?;
        self.feed(log).push(Arc::new(entry));
        Ok(after + 1)
    }

    fn load(&self, log: Log) -> Result<State, StoreError> {
        self.read(|transaction| {
            let revision = revision(transaction, log)?;
            if log.is_of_wholes() {
                return Ok(whole(transaction, log, revision)?.unwrap_or_default());
            }
            let mut state = State {
                revision,
                about: about(transaction, log, revision)?,
                ..State::default()
            };
            let values = transaction.open_table(VALUES)?;
            for found in values.range((log.name(), "")..)? {
                let (key, value) = found?;
                let (of, key) = key.value();
                if of != log.name() {
                    break;
                }
                state.values.insert(key.into(), value.value().into());
            }
            Ok(state)
        })
    }

    fn kept(&self, log: Log, revision: u64) -> Result<Option<State>, StoreError> {
        self.read(|transaction| whole(transaction, log, revision))
    }

    fn history(
        &self,
        log: Log,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, About)>, StoreError> {
        self.read(|transaction| {
            let abouts = transaction.open_table(ABOUT)?;
            let range = abouts.range((log.name(), 0)..(log.name(), before))?;
            let mut history = Vec::new();
            for found in range.rev().take(limit) {
                let (key, text) = found?;
                history.push((key.value().1, parsed(text.value())?));
            }
            Ok(history)
        })
    }

    fn feed(&self, log: Log) -> &Feed {
        match log {
            Log::Mesh => &self.feeds[0],
            Log::Resources => &self.feeds[1],
        }
    }

    fn problem(&self) -> Option<String> {
        let noted = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        noted.clone()
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        self.read(|transaction| {
            let secrets = match transaction.open_table(SECRETS) {
                Ok(secrets) => secrets,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let found = secrets.get(name)?;
            Ok(found.map(|found| {
                let (version, bytes) = found.value();
                Secret {
                    version,
                    bytes: bytes.to_vec().into(),
                }
            }))
        })
    }

    fn keep_secret(&self, name: &str, after: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let newest = self.secret(name)?.map_or(0, |secret| secret.version);
        if newest != after {
            return Err(StoreError::Moved { newest });
        }
        let mut held = self.lock();
        let database = self.opened_to_write(&mut held)?;
        let written = keep_secret(database, name, after + 1, bytes);
        self.written(&mut held, written)?;
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
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.into()),
            other => broken(path, &other.into()),
        })
}

fn broken(path: &Path, error: &redb::Error) -> StoreError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let (place, why) = (path.display().to_string(), error.to_string());
    match error {
        redb::Error::Io(io) if matches!(io.kind(), StorageFull | FileTooLarge | QuotaExceeded) => {
            StoreError::Full { place, why }
        }
        _ => StoreError::Broken { place, why },
    }
}

/// Of each log.
fn newest(database: &Database) -> Result<[u64; Log::ALL.len()], redb::Error> {
    let transaction = database.begin_read()?;
    let [mesh, resources] = Log::ALL.map(|log| revision(&transaction, log));
    Ok([mesh?, resources?])
}

fn revision(transaction: &ReadTransaction, log: Log) -> Result<u64, redb::Error> {
    let newest = match transaction.open_table(NEWEST) {
        Ok(newest) => newest,
        Err(TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let found = newest.get(log.name())?;
    Ok(found.map_or(0, |revision| revision.value()))
}

fn about(
    transaction: &ReadTransaction,
    log: Log,
    revision: u64,
) -> Result<Option<About>, redb::Error> {
    let abouts = transaction.open_table(ABOUT)?;
    let found = abouts.get((log.name(), revision))?;
    found.map(|text| parsed(text.value())).transpose()
}

fn parsed(about: &str) -> Result<About, redb::Error> {
    serde_json::from_str(about).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

fn whole(
    transaction: &ReadTransaction,
    log: Log,
    revision: u64,
) -> Result<Option<State>, redb::Error> {
    let Some(about) = about(transaction, log, revision)? else {
        return Ok(None);
    };
    if !log.is_of_wholes() {
        return Ok(None);
    }
    let mut state = State {
        revision,
        about: Some(about),
        ..State::default()
    };
    let wholes = transaction.open_table(WHOLES)?;
    for found in wholes.range((log.name(), revision, "")..(log.name(), revision + 1, ""))? {
        let (key, value) = found?;
        state
            .values
            .insert(key.value().2.into(), value.value().into());
    }
    Ok(Some(state))
}

fn keep_secret(
    database: &Database,
    name: &str,
    version: u64,
    bytes: &[u8],
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction
        .open_table(SECRETS)?
        .insert(name, (version, bytes))?;
    transaction.commit()?;
    Ok(())
}

fn write(database: &Database, log: Log, entry: &Entry) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    add(&transaction, log, entry)?;
    transaction.commit()?;
    Ok(())
}

fn add(transaction: &WriteTransaction, log: Log, entry: &Entry) -> Result<(), redb::Error> {
    let (name, revision) = (log.name(), entry.revision);
    transaction.open_table(NEWEST)?.insert(name, revision)?;
    let about = serde_json::to_string(&entry.about);
    let about = about.map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    let mut abouts = transaction.open_table(ABOUT)?;
    abouts.insert((name, revision), &*about)?;
    let first_kept = revision.saturating_sub(KEPT - 1);
    abouts.retain_in((name, 0)..(name, first_kept), |_, _| false)?;
    if log.is_of_wholes() {
        let mut wholes = transaction.open_table(WHOLES)?;
        for change in &entry.changes {
            if let Some(value) = &change.value {
                wholes.insert((name, revision, &*change.key), &**value)?;
            }
        }
        let old = (
            Bound::Included((name, 0, "")),
            Bound::Excluded((name, first_kept, "")),
        );
        wholes.retain_in(old, |_, _| false)?;
        return Ok(());
    }
    let mut values = transaction.open_table(VALUES)?;
    for change in &entry.changes {
        match &change.value {
            Some(value) => _ = values.insert((name, &*change.key), &**value)?,
            None => _ = values.remove((name, &*change.key))?,
        }
    }
    Ok(())
}
