//! The authority's folder: `STATE_DIR/ca`, mode 0700, with a file for each tier, mode 0600. A file holds
//! certificate and key together, so that no crash can leave one without the other, and is replaced by
//! rename, so that a full disk leaves the old one whole. Keys are under a passphrase where one is given.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use policy::time::WallTime;
use zeroize::Zeroizing;

use super::{
    IssueError,
    check::{self, Flaw, Which},
    sealed::{self, Passphrase, SealError},
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
    /// Another one than the servers share.
    #[error(
        "{} holds another authority than the store: move it away to take the store's; Envoys with a \
         certificate of the old one need a new bootstrap then", .0.display()
    )]
    Another(PathBuf),
    /// A key that is not opened.
    #[error("{}: {flaw}", path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why.
        flaw: Flaw,
    },
    /// Nothing could be made.
    #[error("no certificate authority could be made: {0}")]
    Made(#[from] IssueError),
    /// A file or folder that cannot be used as it stands.
    #[error(transparent)]
    File(#[from] Unusable),
}

/// Why a passphrase cannot be used: the file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// It cannot be read, or everybody may.
    #[error(transparent)]
    File(#[from] Unusable),
    /// It is no passphrase.
    #[error(
        "{}: must hold one line of {min} or more characters, at most {max} bytes \
         (such as `openssl rand -base64 32` makes), and holds {what}", path.display(), min = sealed::CHARACTERS_MIN, max = sealed::BYTES_MAX
    )]
    NoPassphrase {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: String,
    },
}

impl Passphrase {
    /// What a file holds.
    ///
    /// # Errors
    /// See [`PassphraseError`].
    pub fn read(path: &Path) -> Result<Self, PassphraseError> {
        let bytes = private_file::read_secret(path)?;
        let text = str::from_utf8(&bytes).unwrap_or_default();
        Self::of_text(text).map_err(|what| PassphraseError::NoPassphrase {
            path: path.into(),
            what,
        })
    }
}

/// The authority's folder.
#[derive(Clone)]
pub struct Folder {
    path: PathBuf,
    passphrase: Option<Arc<Passphrase>>,
}

impl Folder {
    /// In a state dir; keys are sealed with this passphrase, and opened by it.
    pub fn of(state_dir: &Path, passphrase: Option<Arc<Passphrase>>) -> Self {
        Self {
            path: state_dir.join("ca"),
            passphrase,
        }
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
                let path = self.path.join(name);
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

    /// Takes up the authority that is kept elsewhere too. Where it is there already, its newest issuing
    /// certificate stays.
    pub(super) fn mirror(&self, ca: &Ca, now: WallTime) -> Result<(), CaError> {
        match self.load(now) {
            Err(CaError::None(_)) => {}
            Ok(there) if there.bundle() == ca.bundle() => return Ok(()),
            Ok(_) => return Err(CaError::Another(self.path.clone())),
            Err(error) => return Err(error),
        }
        let placed = self.place(ca);
        Ok(placed.map_err(|error| Unusable::disk(&self.path, error))?)
    }

    /// Puts an authority where there is none yet.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn place(&self, ca: &Ca) -> io::Result<()> {
        let state_dir = self.path.parent().unwrap_or(Path::new("."));
        let beside = tempfile::Builder::new()
            .prefix(".ca-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(state_dir)?;
        write(&beside.path().join(ROOT), &self.text(&ca.root)?)?;
        write(&beside.path().join(ISSUING), &self.text(&ca.issuing)?)?;
        File::open(beside.path())?.sync_all()?;
        fs::rename(beside.path(), &self.path)?;
        // There is nothing left to clean up.
        let _ = beside.keep();
        File::open(state_dir)?.sync_all()
    }

    /// Seals keys that lie there open though there is a passphrase. Whether there were such.
    ///
    /// # Errors
    /// A disk that refuses.
    pub(super) fn seal(&self, ca: &Ca) -> Result<bool, CaError> {
        if self.passphrase.is_none() {
            return Ok(false);
        }
        let mut any = false;
        for (name, tier) in [(ROOT, &ca.root), (ISSUING, &ca.issuing)] {
            if sealed::block(&self.read(name)?).is_none() {
                any = true;
                let replaced = self.replace(name, tier);
                replaced.map_err(|error| Unusable::disk(&self.path.join(name), error))?;
            }
        }
        Ok(any)
    }

    /// Replaces the issuing certificate.
    pub(super) fn keep_issuing(&self, issuing: &Tier) -> io::Result<()> {
        self.replace(ISSUING, issuing)
    }

    fn replace(&self, name: &str, tier: &Tier) -> io::Result<()> {
        private_file::replace(&self.path.join(name), self.text(tier)?.as_bytes())
    }

    fn check_folder(&self) -> Result<(), CaError> {
        match private_file::check_folder(&self.path)? {
            true => Ok(()),
            false => Err(CaError::None(self.path.clone())),
        }
    }

    fn read(&self, name: &str) -> Result<Zeroizing<String>, CaError> {
        let path = self.path.join(name);
        private_file::read(&path)?.ok_or(CaError::Missing(path))
    }

    fn tier(&self, name: &str) -> Result<Tier, CaError> {
        let text = self.read(name)?;
        let tier = Tier::from_pem(&text, self.passphrase.as_deref());
        let path = self.path.join(name);
        tier.map_err(|flaw| match flaw {
            Flaw::Sealed | Flaw::WrongPassphrase => CaError::Sealed { path, flaw },
            flaw => CaError::Flawed { path, flaw },
        })
    }

    fn text(&self, tier: &Tier) -> io::Result<Zeroizing<String>> {
        let text = tier.to_pem(self.passphrase.as_deref());
        text.map_err(|error| match error {
            SealError::Malformed | SealError::WrongPassphrase => {
                io::Error::other("the key could not be put under the passphrase")
            }
        })
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
