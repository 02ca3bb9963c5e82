//! The last accepted mesh, all its files in one, kept in the state directory, so that a server that starts
//! over a broken file still serves what was good.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use tracing::warn;

/// One file, replaced as a whole.
#[derive(Debug, Clone)]
pub struct LastGood {
    file: PathBuf,
}

impl LastGood {
    /// In `state_dir`, which is made if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn in_dir(state_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(state_dir)?;
        Ok(Self {
            file: state_dir.join("last-good-mesh.json"),
        })
    }

    /// Keeps `text`. A disk that refuses is a warning: serving goes on from memory.
    pub fn keep(&self, text: &str) {
        if self.text().as_deref() == Some(text) {
            return;
        }
        if let Err(error) = self.replace(text) {
            warn!(file = %self.file.display(), %error, "the last good mesh could not be kept");
        }
    }

    /// What was kept, if anything was.
    pub fn text(&self) -> Option<String> {
        fs::read_to_string(&self.file).ok()
    }

    /// Written beside, synced, renamed: a full disk or a crash leaves the old file whole.
    fn replace(&self, text: &str) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        beside.write_all(text.as_bytes())?;
        beside.as_file().sync_all()?;
        beside.persist(&self.file)?;
        fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_back_and_the_newest_wins() {
        let folder = tempfile::tempdir().unwrap();
        let last_good = LastGood::in_dir(&folder.path().join("state")).unwrap();
        assert_eq!(last_good.text(), None);
        last_good.keep("a: 1");
        last_good.keep("a: 2");
        assert_eq!(last_good.text().as_deref(), Some("a: 2"));
    }
}
