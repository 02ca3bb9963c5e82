//! A state dir made of an archive: all of it, or nothing.

use std::{
    fs::{self, File, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, bail};
use policy::time::WallTime;

use crate::{
    access::TokenFile,
    archive::Archive,
    pki::{Folder, Passphrase},
    private_file,
    store::Embedded,
};

/// A state dir that is to be.
pub struct Restored<'a> {
    archive: &'a Archive,
    /// What the authority's keys are sealed with.
    passphrase: Option<Arc<Passphrase>>,
    now: WallTime,
}

impl<'a> Restored<'a> {
    /// Of an archive.
    pub fn of(archive: &'a Archive, passphrase: Option<Arc<Passphrase>>, now: WallTime) -> Self {
        Self {
            archive,
            passphrase,
            now,
        }
    }

    /// Makes it, where nothing is yet. It is made beside its place and renamed.
    ///
    /// # Errors
    /// Something is there; what is in the archive cannot be used; a disk that refuses.
    pub fn place(&self, state_dir: &Path) -> anyhow::Result<()> {
        match fs::read_dir(state_dir) {
            Ok(mut there) => {
                if let Some(first) = there.next() {
                    let first = first?.file_name();
                    bail!(
                        "it holds something already ({}); a backup is brought back into an empty folder: move this one \
                         away, or name another",
                        first.display()
                    );
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let folder = private_file::folder_of(state_dir);
        fs::create_dir_all(folder)?;
        let beside = tempfile::Builder::new()
            .prefix(".restore-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(folder)?;
        self.fill(beside.path())?;
        File::open(beside.path())?.sync_all()?;
        fs::rename(beside.path(), state_dir)?;
        // There is nothing left to clean up.
        let _ = beside.keep();
        File::open(folder)?.sync_all()?;
        Ok(())
    }

    fn fill(&self, dir: &Path) -> anyhow::Result<()> {
        let store = Embedded::open(dir)?;
        self.archive.put_into(&store)?;
        drop(store);
        if let Some(authority) = self.archive.authority() {
            let ca = authority.read(self.now)?;
            Folder::of(dir, self.passphrase.clone())
                .place(&ca)
                .context("the certificate authority")?;
        }
        if let Some(tokens) = self.archive.tokens() {
            TokenFile::of(dir).put(tokens)?;
        }
        Ok(())
    }
}
