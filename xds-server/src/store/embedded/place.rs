//! Where the file is, and whether it ever was: a folder that lost its store is not a new one.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use redb::Database;
use tracing::warn;

use super::broken;
use crate::{private_file, store::StoreError};

pub(super) const FILE: &str = "mumbai-mesh.redb";
/// Beside the file from its first revision table on.
const MADE: &str = "mumbai-mesh.redb.made";
const SAYS: &str = "mumbai-mesh.redb was made beside this file. A server that finds this one without it has lost its \
                    store, and does not begin with an empty mesh.\n";
/// What became of the file when it moved into an etcd.
const MOVED: &str = "mumbai-mesh.redb.moved";
/// Only servers that had a store write it.
const AUDIT: &str = "audit.log";

/// The file that is to be opened. A new one appears as a whole, so that who is killed while they make it leaves none.
pub(super) fn made(folder: &Path) -> Result<PathBuf, StoreError> {
    let path = folder.join(FILE);
    let disk = |error| broken(&path, &redb::Error::Io(error));
    private_file::make_folder(folder).map_err(|error| broken(folder, &redb::Error::Io(error)))?;
    if let Some(error) = lost(folder) {
        return Err(error);
    }
    // An empty one is of a first start of an earlier version that was killed: it is filled in its place.
    if bytes(&path).map_err(disk)?.is_some() {
        return Ok(path);
    }
    let beside = tempfile::Builder::new()
        .prefix(".store-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(disk)?;
    let new = Database::create(beside.path()).map_err(|error| broken(&path, &error.into()))?;
    drop(new);
    match beside.persist_noclobber(&path) {
        Ok(_) => {}
        // Another server was faster.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(disk(error.error)),
    }
    sync(folder).map_err(disk)?;
    Ok(path)
}

/// Says for ever that there is a store. It is not worth a start: a full disk may refuse it.
pub(super) fn note_made(folder: &Path) {
    let path = folder.join(MADE);
    if path.exists() {
        return;
    }
    let written = private_file::replace(&path, SAYS.as_bytes());
    if let Err(error) = written {
        warn!(path = %path.display(), %error, "not written; tried again with the next start");
    }
}

/// Whether a folder has a file with something in it.
pub(super) fn is_there(folder: &Path) -> bool {
    matches!(bytes(&folder.join(FILE)), Ok(Some(1..)) | Err(_))
}

/// Why a folder without a store is none to begin in: it had one.
pub(super) fn lost(folder: &Path) -> Option<StoreError> {
    let file = folder.join(FILE);
    let seen = trace(folder).filter(|_| !is_there(folder))?;
    Some(StoreError::Lost {
        is_empty: file.exists(),
        file,
        seen,
    })
}

/// The same where an etcd takes its place: it had one, and that did not move.
pub(super) fn lost_before_it_moved(folder: &Path) -> Option<StoreError> {
    lost(folder).filter(|_| folder.join(MADE).exists())
}

/// What says that there was one.
fn trace(folder: &Path) -> Option<&'static str> {
    [MOVED, MADE, AUDIT]
        .into_iter()
        .find(|name| folder.join(name).exists())
}

/// The file is not used any more.
pub(super) fn set_aside(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(MADE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(folder.join(FILE), folder.join(MOVED))
}

fn bytes(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
