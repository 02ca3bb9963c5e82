//! The tables of the file, and what is read from and written to them.

use std::ops::Bound;

use redb::{
    Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError, WriteTransaction,
};

use crate::store::{About, Entry, KEPT, Log, Secret, State};

/// Log -> its newest revision.
pub(super) const NEWEST: TableDefinition<'_, &str, u64> = TableDefinition::new("newest");
/// Log and revision -> who, when and why, as JSON.
pub(super) const ABOUT: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("about");
/// Name of a secret -> its version and bytes.
pub(super) const SECRETS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("secrets");
/// Of logs whose revisions are changes: log and key -> value.
pub(super) const VALUES: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("values");
/// Of logs whose revisions are wholes: log, revision and key -> value.
pub(super) const WHOLES: TableDefinition<'_, (&str, u64, &str), &str> =
    TableDefinition::new("wholes");

/// What is written to see whether there is room for it.
const ROOM: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("room");

/// Of each log.
pub(super) fn newest(database: &Database) -> Result<[u64; Log::ALL.len()], redb::Error> {
    let transaction = database.begin_read()?;
    let [mesh, resources, instances, proxies] = Log::ALL.map(|log| revision(&transaction, log));
    Ok([mesh?, resources?, instances?, proxies?])
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

/// All that holds.
pub(super) fn state(transaction: &ReadTransaction, log: Log) -> Result<State, redb::Error> {
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
}

pub(super) fn history(
    transaction: &ReadTransaction,
    log: Log,
    before: u64,
    limit: usize,
) -> Result<Vec<(u64, About)>, redb::Error> {
    let abouts = transaction.open_table(ABOUT)?;
    let range = abouts.range((log.name(), 0)..(log.name(), before))?;
    let mut history = Vec::new();
    for found in range.rev().take(limit) {
        let (key, text) = found?;
        history.push((key.value().1, parsed(text.value())?));
    }
    Ok(history)
}

pub(super) fn secret(
    transaction: &ReadTransaction,
    name: &str,
) -> Result<Option<Secret>, redb::Error> {
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
}

/// A kept revision of a log of wholes.
pub(super) fn whole(
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

pub(super) fn keep_secret(
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

/// Writes as many bytes as a revision had that was refused, and takes them away again: what was in their place is free
/// within the file then.
pub(super) fn try_room(database: &Database, bytes: usize) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction
        .open_table(ROOM)?
        .insert("room", &*vec![0; bytes])?;
    transaction.commit()?;
    let transaction = database.begin_write()?;
    transaction.delete_table(ROOM)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn write(database: &Database, log: Log, entry: &Entry) -> Result<(), redb::Error> {
    write_all(database, log, std::slice::from_ref(entry))
}

/// All of them, or none.
pub(super) fn write_all(
    database: &Database,
    log: Log,
    entries: &[Entry],
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for entry in entries {
        add(&transaction, log, entry)?;
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn add(
    transaction: &WriteTransaction,
    log: Log,
    entry: &Entry,
) -> Result<(), redb::Error> {
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
