//! The authority's folder: `STATE_DIR/ca`, mode 0700, with a file for each tier, mode 0600. A file holds
//! certificate and key together, so that no crash can leave one without the other, and is replaced by
//! rename, so that a full disk leaves the old one whole.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use policy::time::WallTime;

use super::{
    IssueError,
    check::{self, Flaw, Which},
    tier::{Ca, Tier},
};
use crate::private_file::{self, Unusable};

const ROOT: &str = "root.pem";
const ISSUING: &str = "issuing.pem";

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
    /// A certificate that cannot be used.
    #[error("{}: {flaw}; bring the right file back from a backup", path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: Flaw,
    },
    /// Nothing could be made.
    #[error("no certificate authority could be made: {0}")]
    Made(#[from] IssueError),
    /// A file or folder that cannot be used as it stands.
    #[error(transparent)]
    File(#[from] Unusable),
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
                Err(CaError::None(path)) => Err(Unusable::Disk { path, error }.into()),
                Err(other) => Err(other),
            },
        }
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
        private_file::replace(&self.0.join(ISSUING), &issuing.to_pem())
    }

    fn check_folder(&self) -> Result<(), CaError> {
        match private_file::check_folder(&self.0)? {
            true => Ok(()),
            false => Err(CaError::None(self.0.clone())),
        }
    }

    fn tier(&self, name: &str) -> Result<Tier, CaError> {
        let path = self.0.join(name);
        let Some(text) = private_file::read(&path)? else {
            return Err(CaError::Missing(path));
        };
        Tier::from_pem(&text).map_err(|flaw| CaError::Flawed { path, flaw })
    }
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
