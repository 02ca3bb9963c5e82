//! The tokens in the state dir: `tokens.json`, mode 0600. Commands change it, also while a server runs.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{Tokens, TokensError};
use crate::private_file::{self, Unusable};

const NAME: &str = "tokens.json";
/// Held by whoever changes the file, so that of two commands none is lost.
const LOCK: &str = "tokens.lock";

/// Why tokens cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file that cannot be used as it stands.
    #[error(transparent)]
    File(#[from] Unusable),
    /// What it says, or what was to be changed.
    #[error("{}{error}", .path.as_ref().map_or(String::new(), |path| format!("{}: ", path.display())))]
    Tokens {
        /// The file, where that is at fault.
        path: Option<PathBuf>,
        /// What is wrong.
        error: TokensError,
    },
}

/// Inode, and when it last changed: a new content, mode or owner shows there.
pub(super) type Stamp = (u64, i64, i64);

/// Where a server's tokens are.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// In a state dir.
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join(NAME))
    }

    /// The folder that it is in.
    pub fn folder(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new("."))
    }

    /// What changes with the file, whoever changes it and however: to look costs less than to read it, and
    /// its folder sees other files change all the time.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::symlink_metadata(&self.0).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some((metadata.ino(), changed.0, changed.1))
    }

    /// All tokens; none where there is no file.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn load(&self) -> Result<Tokens, FileError> {
        let Some(text) = private_file::read(&self.0)? else {
            return Ok(Tokens::default());
        };
        Tokens::from_text(&text).map_err(|error| FileError::Tokens {
            path: Some(self.0.clone()),
            error,
        })
    }

    /// The file's text; none where there is no file.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn text(&self) -> Result<Option<String>, FileError> {
        let text = private_file::read(&self.0)?;
        Ok(text.map(|text| text.to_string()))
    }

    /// Puts the tokens of such a text where there are none.
    ///
    /// # Errors
    /// A text of another form; a disk that refuses.
    pub fn put(&self, text: &str) -> Result<(), FileError> {
        let tokens = Tokens::from_text(text);
        let tokens = tokens.map_err(|error| FileError::Tokens { path: None, error })?;
        let replaced = private_file::replace(&self.0, tokens.to_text().as_bytes());
        Ok(replaced.map_err(|error| Unusable::disk(&self.0, error))?)
    }

    /// Changes them; the folder is made if it is not there.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn change(
        &self,
        change: impl FnOnce(&mut Tokens) -> Result<(), TokensError>,
    ) -> Result<(), FileError> {
        let folder = self.folder();
        let disk = |path: &Path| {
            let path = path.to_path_buf();
            move |error| FileError::File(Unusable::disk(&path, error))
        };
        private_file::make_folder(folder).map_err(disk(folder))?;
        let lock = folder.join(LOCK);
        let mut options = OpenOptions::new();
        let lock_file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .map_err(disk(&lock))?;
        // Until it is closed.
        lock_file.lock().map_err(disk(&lock))?;
        let mut tokens = self.load()?;
        change(&mut tokens).map_err(|error| FileError::Tokens { path: None, error })?;
        private_file::replace(&self.0, tokens.to_text().as_bytes()).map_err(disk(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, thread};

    use policy::time::WallTime;

    use super::*;
    use crate::access::{Role, Secret, TokenName};

    fn add(file: &TokenFile, name: &str) -> Result<(), FileError> {
        let secret = Secret::generate().unwrap();
        let name = TokenName::new(name).unwrap();
        let now = WallTime::from_unix_millis(0);
        file.change(|tokens| tokens.add(name, Role::Viewer, &secret, now, None))
    }

    #[test]
    fn changes_at_once_are_all_kept_and_the_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let file = TokenFile::of(&state);
        assert!(file.load().unwrap().is_empty());
        thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || add(file, &format!("t{number}")).unwrap());
            }
        });
        assert_eq!(file.load().unwrap().iter().count(), 8);
        let mode = fs::metadata(state.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = add(&file, "t1").unwrap_err().to_string();
        assert!(error.starts_with("there is a token t1 already"), "{error}");
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_a_link_or_says_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of(dir.path());
        add(&file, "ci").unwrap();
        let path = dir.path().join(NAME);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(
            error.contains("may be used by others (mode 0640)"),
            "{error}"
        );
        assert!(add(&file, "other").is_err());

        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");

        fs::remove_file(&path).unwrap();
        private_file::replace(&path, b"[]").unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(
            error.contains("tokens.json: ") && error.contains("backup"),
            "{error}"
        );
    }
}
