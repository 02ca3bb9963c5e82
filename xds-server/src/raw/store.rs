//! Raw resources on disk: one transaction per apply, so that its cost does not grow with what is there.
//! A disk that refuses changes nothing; the database is opened anew with the next write.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use tracing::error;

use super::key::{Entry, Key, Nodes};
use crate::resource::ResourceType;

/// (every node, `cluster` or `id`; its value; type URL; name) -> (`override`, JSON).
const RESOURCES: TableDefinition<'_, (&str, &str, &str, &str), (bool, &str)> =
    TableDefinition::new("raw_resources");
/// Name of a file -> its last good text.
const FILES: TableDefinition<'_, &str, &str> = TableDefinition::new("resource_files");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "raw_revision";

const FILE: &str = "mumbai-mesh.redb";
/// What it holds is in memory already; the default is 1 GiB.
const CACHE_BYTES: usize = 1024 * 1024;

/// Why the store does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has it.
    #[error("{0} is in use by another server; give each server a --state-dir of its own")]
    InUse(PathBuf),
    /// No space left.
    #[error("{0} cannot grow: {1}; make space, then apply again")]
    Full(PathBuf, redb::Error),
    /// Anything else.
    #[error("{0} does not serve: {1}")]
    Broken(PathBuf, redb::Error),
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub struct Batch<'b> {
    /// The revision after it.
    pub revision: u64,
    /// Resources held by the API: set, or removed.
    pub resources: Vec<(&'b Key, Option<&'b Entry>)>,
    /// Files: their last good text, or gone.
    pub files: Vec<(&'b str, Option<&'b str>)>,
}

/// What was kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// The newest revision.
    pub revision: u64,
    /// Of resources held by the API: key, `override`, JSON.
    pub resources: Vec<(Key, bool, String)>,
    /// Files: name and last good text.
    pub files: Vec<(String, String)>,
}

/// The database, closed after a failure until the next write.
pub struct Store {
    path: PathBuf,
    database: Option<Database>,
}

impl Store {
    /// Opens the database in a folder that exists, or makes it. Only its owner may read it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server runs there; a disk that refuses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let made = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        made.map_err(|error| broken(&path, redb::Error::Io(error)))?;
        let database = Some(open(&path)?);
        Ok(Self { path, database })
    }

    /// Everything that was kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(&mut self) -> Result<Kept, StoreError> {
        let path = self.path.clone();
        let (database, _) = self.database()?;
        load(database).map_err(|error| broken(&path, error))
    }

    /// Writes a batch: all of it or nothing. `everything` is called when an earlier write failed in
    /// such a way that the disk may hold something else than memory: it gives the whole.
    ///
    /// # Errors
    /// When the disk refuses: nothing was changed.
    pub fn commit(
        &mut self,
        batch: &Batch<'_>,
        known_revision: u64,
        everything: impl FnOnce() -> Kept,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let (database, is_new) = self.database()?;
        let written = (|| {
            let transaction = database.begin_write()?;
            if is_new && revision(&transaction)? != known_revision {
                restore(&transaction, &everything())?;
            }
            write(&transaction, batch)?;
            transaction.commit()?;
            Ok(())
        })();
        written.map_err(|error| {
            // It refuses everything after an I/O error, and its pages in memory are not to be
            // trusted: what is on disk is.
            self.database = None;
            broken(&path, error)
        })
    }

    /// The database, and whether it was opened for this.
    fn database(&mut self) -> Result<(&Database, bool), StoreError> {
        let is_new = self.database.is_none();
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        Ok((self.database.insert(database), is_new))
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.into()),
            other => broken(path, other.into()),
        })
}

fn broken(path: &Path, error: redb::Error) -> StoreError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match &error {
        redb::Error::Io(io) if matches!(io.kind(), StorageFull | FileTooLarge | QuotaExceeded) => {
            StoreError::Full(path.into(), error)
        }
        _ => StoreError::Broken(path.into(), error),
    }
}

fn row(key: &Key) -> (&'static str, &str, &'static str, &str) {
    let (kind, value) = match &key.nodes {
        Nodes::All => ("", ""),
        Nodes::Cluster(cluster) => ("cluster", &**cluster),
        Nodes::Id(id) => ("id", &**id),
    };
    (kind, value, key.kind.url(), &key.name)
}

fn key((nodes, value, url, name): (&str, &str, &str, &str)) -> Option<Key> {
    let value: Arc<str> = value.into();
    Some(Key {
        nodes: match nodes {
            "" => Nodes::All,
            "cluster" => Nodes::Cluster(value),
            "id" => Nodes::Id(value),
            _ => return None,
        },
        kind: ResourceType::from_url(url)?,
        name: name.into(),
    })
}

fn revision(transaction: &WriteTransaction) -> Result<u64, redb::Error> {
    let meta = transaction.open_table(META)?;
    let revision = meta.get(REVISION)?;
    Ok(revision.map_or(0, |revision| revision.value()))
}

fn write(transaction: &WriteTransaction, batch: &Batch<'_>) -> Result<(), redb::Error> {
    let mut resources = transaction.open_table(RESOURCES)?;
    for (key, entry) in &batch.resources {
        match entry {
            Some(entry) => _ = resources.insert(row(key), (entry.overrides, &*entry.body))?,
            None => _ = resources.remove(row(key))?,
        }
    }
    let mut files = transaction.open_table(FILES)?;
    for (name, text) in &batch.files {
        match text {
            Some(text) => _ = files.insert(*name, *text)?,
            None => _ = files.remove(*name)?,
        }
    }
    let mut meta = transaction.open_table(META)?;
    meta.insert(REVISION, batch.revision)?;
    Ok(())
}

fn restore(transaction: &WriteTransaction, kept: &Kept) -> Result<(), redb::Error> {
    transaction.delete_table(RESOURCES)?;
    transaction.delete_table(FILES)?;
    let mut resources = transaction.open_table(RESOURCES)?;
    for (key, overrides, body) in &kept.resources {
        resources.insert(row(key), (*overrides, &**body))?;
    }
    let mut files = transaction.open_table(FILES)?;
    for (name, text) in &kept.files {
        files.insert(&**name, &**text)?;
    }
    Ok(())
}

fn load(database: &Database) -> Result<Kept, redb::Error> {
    // A write, so that the tables are there.
    let transaction = database.begin_write()?;
    write(
        &transaction,
        &Batch {
            revision: revision(&transaction)?,
            ..Batch::default()
        },
    )?;
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let mut kept = Kept::default();
    if let Some(revision) = transaction.open_table(META)?.get(REVISION)? {
        kept.revision = revision.value();
    }
    for found in transaction.open_table(RESOURCES)?.iter()? {
        let (row, value) = found?;
        let (overrides, body) = value.value();
        match key(row.value()) {
            Some(key) => kept.resources.push((key, overrides, body.into())),
            None => error!(row = ?row.value(), "a kept resource of no known type is left out"),
        }
    }
    for found in transaction.open_table(FILES)?.iter()? {
        let (name, text) = found?;
        kept.files.push((name.value().into(), text.value().into()));
    }
    Ok(kept)
}
