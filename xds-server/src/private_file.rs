//! Files that only their owner may use: keys, and what stands for them. Such a file is never a link, never
//! open to others, and is replaced by rename, so that a full disk or a crash leaves the old one whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// What only its owner may do.
const OTHERS: u32 = 0o077;

/// Why a file cannot be used: which, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Others may read or write it.
    #[error(
        "{} may be used by others (mode {mode:04o}): look who did, then chmod {} {}",
        path.display(), if *is_folder { "0700" } else { "0600" }, path.display()
    )]
    Wide {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Which of both.
        is_folder: bool,
    },
    /// Something else than it must be.
    #[error("{} is a symbolic link or no {what}: put the {what} itself there", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What it must be.
        what: &'static str,
    },
    /// A disk that refuses.
    #[error("{}: {error}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Unusable {
    /// A disk that refuses.
    pub fn disk(path: &Path, error: io::Error) -> Self {
        Self::Disk {
            path: path.into(),
            error,
        }
    }
}

/// Makes a folder, and those above it, for its owner alone. One that is there stays as it is.
///
/// # Errors
/// A disk that refuses.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A folder that only its owner may use; whether it is there.
///
/// # Errors
/// What it is instead.
pub fn check_folder(path: &Path) -> Result<bool, Unusable> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Unusable::disk(path, error)),
    };
    let what = "folder";
    if !metadata.is_dir() {
        let path = path.into();
        return Err(Unusable::Kind { path, what });
    }
    check_mode(path, &metadata)?;
    Ok(true)
}

/// A file's text, if there is one; what is checked is what is read.
///
/// # Errors
/// Why it cannot be used.
pub fn read(path: &Path) -> Result<Option<Zeroizing<String>>, Unusable> {
    let disk = |error| Unusable::disk(path, error);
    let kind = || Unusable::Kind {
        path: path.into(),
        what: "file",
    };
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(kind()),
        Err(error) => return Err(disk(error)),
    };
    let metadata = file.metadata().map_err(disk)?;
    if !metadata.is_file() {
        return Err(kind());
    }
    check_mode(path, &metadata)?;
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(disk)?;
    Ok(Some(text))
}

/// Puts a file in the place of the one that is there.
///
/// # Errors
/// A disk that refuses; the old file is whole then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let mut beside = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    beside.write_all(content)?;
    beside.as_file().sync_all()?;
    beside.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Where a file or folder is, or is to be: a name alone is one of the working directory.
pub fn folder_of(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), Unusable> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(Unusable::Wide {
        path: path.into(),
        mode,
        is_folder: metadata.is_dir(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_one_of_the_working_directory() {
        for (path, folder) in [
            ("store.json", "."),
            ("./store.json", "."),
            ("a/store.json", "a"),
            ("/store.json", "/"),
            ("/", "."),
        ] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
        }
    }
}
