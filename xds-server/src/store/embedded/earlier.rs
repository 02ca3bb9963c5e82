//! What earlier versions kept in a state dir is taken in, once: tables of raw resources in the same file, and
//! the last good mesh beside it.

use std::{fs, path::Path, sync::Arc, time::UNIX_EPOCH};

use policy::time::WallTime;
use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction,
};
use tracing::info;

use super::tables::{ABOUT, NEWEST, VALUES, WHOLES, add, newest};
use crate::store::{About, Change, Entry, Log, MESH_KEY, key};

/// (every node, `cluster` or `id`; its value; type URL; name) -> (`override`, JSON).
const RAW_RESOURCES: TableDefinition<'_, (&str, &str, &str, &str), (bool, &str)> =
    TableDefinition::new("raw_resources");
/// Name of a file -> its last good text.
const RESOURCE_FILES: TableDefinition<'_, &str, &str> = TableDefinition::new("resource_files");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RAW_REVISION: &str = "raw_revision";

const LAST_GOOD: &str = "last-good-mesh.json";

/// Whether the folder has a last good mesh.
pub(super) fn is_there(folder: &Path) -> bool {
    folder.join(LAST_GOOD).exists()
}

/// Makes what is missing, takes in what earlier versions kept, and gives the newest revisions.
pub(super) fn take_in(
    database: &Database,
    folder: &Path,
) -> Result<[u64; Log::ALL.len()], redb::Error> {
    let last_good = folder.join(LAST_GOOD);
    // What is whole already is not written again: a full disk must not keep a server from starting.
    if !is_whole(database)? || last_good.exists() {
        let transaction = database.begin_write()?;
        transaction.open_table(NEWEST)?;
        transaction.open_table(ABOUT)?;
        transaction.open_table(VALUES)?;
        transaction.open_table(WHOLES)?;
        take_in_resources(&transaction)?;
        take_in_mesh(&transaction, &last_good)?;
        transaction.commit()?;
        // It is in the store now. Should it stay, it is looked at again with the next start.
        let _ = fs::remove_file(last_good);
    }
    newest(database)
}

fn is_whole(database: &Database) -> Result<bool, redb::Error> {
    let transaction = database.begin_read()?;
    let names: Vec<String> = transaction
        .list_tables()?
        .map(|table| table.name().to_string())
        .collect();
    let has = |name: &str| names.iter().any(|there| there == name);
    let is_there = [NEWEST.name(), ABOUT.name(), VALUES.name(), WHOLES.name()].map(has);
    let is_old = [RAW_RESOURCES.name(), RESOURCE_FILES.name(), META.name()].map(has);
    Ok(!is_there.contains(&false) && !is_old.contains(&true))
}

fn take_in_resources(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut changes = Vec::new();
    let revision = {
        for found in transaction.open_table(RAW_RESOURCES)?.iter()? {
            let (row, value) = found?;
            let ((nodes, of, url, name), (overrides, body)) = (row.value(), value.value());
            changes.push(Change {
                key: key(&["resource", nodes, of, url, name]),
                value: Some(format!("{{\"override\":{overrides},\"resource\":{body}}}").into()),
            });
        }
        for found in transaction.open_table(RESOURCE_FILES)?.iter()? {
            let (name, text) = found?;
            changes.push(Change {
                key: key(&["file", name.value()]),
                value: Some(text.value().into()),
            });
        }
        let meta = transaction.open_table(META)?;
        let revision = meta.get(RAW_REVISION)?;
        revision.map_or(0, |revision| revision.value())
    };
    transaction.delete_table(RAW_RESOURCES)?;
    transaction.delete_table(RESOURCE_FILES)?;
    transaction.delete_table(META)?;
    if revision == 0 {
        return Ok(());
    }
    info!(
        revision,
        values = changes.len(),
        "raw resources are taken in"
    );
    let entry = Entry {
        revision,
        about: earlier(WallTime::from_unix_millis(0)),
        changes,
    };
    add(transaction, Log::Resources, &entry)
}

fn take_in_mesh(transaction: &WriteTransaction, file: &Path) -> Result<(), redb::Error> {
    let is_first = transaction
        .open_table(NEWEST)?
        .get(Log::Mesh.name())?
        .is_none();
    let Some(text) = fs::read_to_string(file).ok().filter(|_| is_first) else {
        return Ok(());
    };
    info!(file = %file.display(), "the last good mesh is taken in");
    let entry = Entry {
        revision: 1,
        about: earlier(written_at(file)),
        changes: vec![Change {
            key: MESH_KEY.into(),
            value: Some(Arc::from(text)),
        }],
    };
    add(transaction, Log::Mesh, &entry)
}

fn written_at(file: &Path) -> WallTime {
    let written = fs::metadata(file).and_then(|metadata| metadata.modified());
    let since = written
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let millis = since.map_or(0, |since| since.as_millis());
    WallTime::from_unix_millis(i64::try_from(millis).unwrap_or_default())
}

fn earlier(at: WallTime) -> About {
    About::of_files(at, "kept by an earlier version of mumbai-mesh")
}

#[cfg(test)]
pub(super) fn write_as_earlier(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let body = format!("{{\"@type\":\"{url}\",\"name\":\"a\"}}");
    let row = ("cluster", "edge", url, "a");
    transaction
        .open_table(RAW_RESOURCES)?
        .insert(row, (true, &*body))?;
    transaction
        .open_table(RESOURCE_FILES)?
        .insert("one.json", "{}")?;
    transaction.open_table(META)?.insert(RAW_REVISION, 41)?;
    transaction.commit()?;
    Ok(())
}
