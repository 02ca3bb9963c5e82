//! The authority's folder: `STATE_DIR/ca`, mode 0700, with a file for each tier, mode 0600. A file holds
//! certificate and key together, so that no crash can leave one without the other, and is replaced by
//! rename, so that a full disk leaves the old one whole.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use policy::time::WallTime;
use zeroize::Zeroizing;

use super::{
    IssueError,
    check::{self, Flaw, Which},
    tier::{Ca, Tier},
};

const ROOT: &str = "root.pem";
const ISSUING: &str = "issuing.pem";
/// What only its owner may do.
const OTHERS: u32 = 0o077;

/// Why the authority cannot be used: the file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Nothing is there.
    #[error("{} is not there: start the server once with this --state-dir, which makes it", .0.display())]
    None(PathBuf),
    /// Half of it is there.
    #[error(
        "{} is missing: bring it back from a backup; or move the folder away for a new authority, \
         which no Envoy trusts before it has a new bootstrap", .0.display()
    )]
    Missing(PathBuf),
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
    /// A certificate that cannot be used.
    #[error("{}: {flaw}; bring the right file back from a backup", path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: Flaw,
    },
    /// Another one than the servers share.
    #[error(
        "{} holds another authority than the store: move it away to take the store's; Envoys with a \
         certificate of the old one need a new bootstrap then", .0.display()
    )]
    Another(PathBuf),
    /// Nothing could be made.
    #[error("no certificate authority could be made: {0}")]
    Made(#[from] IssueError),
    /// A disk that refuses.
    #[error("{}: {error}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The authority's folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// In a state dir.
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("ca"))
    }

    /// The authority that is there.
    ///
    /// # Errors
    /// None is there; it may not be used as it stands.
    pub fn load(&self, now: WallTime) -> Result<Ca, CaError> {
        self.check_folder()?;
        let ca = Ca {
            root: self.tier(ROOT)?,
            issuing: self.tier(ISSUING)?,
        };
        match check::ca(&ca, now) {
            Ok(()) => Ok(ca),
            Err((which, flaw)) => {
                let name = match which {
                    Which::Root => ROOT,
                    Which::Issuing => ISSUING,
                };
                let path = self.0.join(name);
                Err(CaError::Flawed { path, flaw })
            }
        }
    }

    /// The authority that is there, or a new one. The folder appears as a whole: of two that make one,
    /// one wins, and a crash leaves none.
    ///
    /// # Errors
    /// As [`load`](Self::load); a disk that refuses.
    pub fn load_or_make(&self, life: Duration, now: WallTime) -> Result<(Ca, bool), CaError> {
        match self.load(now) {
            Err(CaError::None(_)) => {}
            loaded => return Ok((loaded?, false)),
        }
        let ca = Ca::make(life, now)?;
        match self.place(&ca) {
            Ok(()) => Ok((ca, true)),
            Err(error) => match self.load(now) {
                // Somebody else was faster.
                Ok(ca) => Ok((ca, false)),
                Err(CaError::None(path)) => Err(CaError::Disk { path, error }),
                Err(other) => Err(other),
            },
        }
    }

    /// Takes up the authority that is kept elsewhere too. Where it is there already, its newest issuing
    /// certificate stays.
    pub(super) fn mirror(&self, ca: &Ca, now: WallTime) -> Result<(), CaError> {
        match self.load(now) {
            Err(CaError::None(_)) => {}
            Ok(there) if there.bundle() == ca.bundle() => return Ok(()),
            Ok(_) => return Err(CaError::Another(self.0.clone())),
            Err(error) => return Err(error),
        }
        let path = self.0.clone();
        self.place(ca)
            .map_err(|error| CaError::Disk { path, error })
    }

    fn place(&self, ca: &Ca) -> io::Result<()> {
        let state_dir = self.0.parent().unwrap_or(Path::new("."));
        let beside = tempfile::Builder::new()
            .prefix(".ca-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(state_dir)?;
        write(&beside.path().join(ROOT), &ca.root.to_pem())?;
        write(&beside.path().join(ISSUING), &ca.issuing.to_pem())?;
        File::open(beside.path())?.sync_all()?;
        fs::rename(beside.path(), &self.0)?;
        // There is nothing left to clean up.
        let _ = beside.keep();
        File::open(state_dir)?.sync_all()
    }

    /// Replaces the issuing certificate.
    pub(super) fn keep_issuing(&self, issuing: &Tier) -> io::Result<()> {
        let mut beside = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.0)?;
        beside.write_all(issuing.to_pem().as_bytes())?;
        beside.as_file().sync_all()?;
        beside.persist(self.0.join(ISSUING))?;
        File::open(&self.0)?.sync_all()
    }

    fn check_folder(&self) -> Result<(), CaError> {
        let path = self.0.clone();
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CaError::None(path));
            }
            Err(error) => return Err(CaError::Disk { path, error }),
        };
        let what = "folder";
        if !metadata.is_dir() {
            return Err(CaError::Kind { path, what });
        }
        narrow(path, &metadata)
    }

    fn tier(&self, name: &str) -> Result<Tier, CaError> {
        let path = self.0.join(name);
        let text = read(&path)?;
        Tier::from_pem(&text).map_err(|flaw| CaError::Flawed { path, flaw })
    }
}

fn narrow(path: PathBuf, metadata: &fs::Metadata) -> Result<(), CaError> {
    let mode = metadata.permissions().mode() & 0o7777;
    let is_folder = metadata.is_dir();
    if mode & OTHERS == 0 {
        Ok(())
    } else {
        Err(CaError::Wide {
            path,
            mode,
            is_folder,
        })
    }
}

/// A file that only its owner may use; what is checked is what is read.
fn read(path: &Path) -> Result<Zeroizing<String>, CaError> {
    let disk = |error| CaError::Disk {
        path: path.into(),
        error,
    };
    let kind = || CaError::Kind {
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CaError::Missing(path.into()));
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(kind()),
        Err(error) => return Err(disk(error)),
    };
    let metadata = file.metadata().map_err(disk)?;
    if !metadata.is_file() {
        return Err(kind());
    }
    narrow(path.into(), &metadata)?;
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(disk)?;
    Ok(text)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
