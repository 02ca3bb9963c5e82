//! The authority's keys at rest, under a passphrase: `ENCRYPTED PRIVATE KEY` of PKCS #8 (RFC 5958), by scrypt and
//! AES-256, as openssl reads it too.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument,
    der::pem::{LineEnding, PemLabel as _},
};
use zeroize::Zeroizing;

/// Fewer characters are guessed.
const CHARACTERS_MIN: usize = 12;
const BYTES_MAX: u64 = 4096;

/// Why a passphrase cannot be used: the file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// It cannot be read.
    #[error("--ca-passphrase-file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Everybody may read it.
    #[error(
        "--ca-passphrase-file {}: everybody may use it (mode {mode:04o}): look who did, then chmod 0600 {}",
        path.display(), path.display()
    )]
    Wide {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no passphrase.
    #[error(
        "--ca-passphrase-file {}: must hold one line of {CHARACTERS_MIN} or more characters, at most {BYTES_MAX} bytes \
         (such as `openssl rand -base64 32` makes), and holds {what}", path.display()
    )]
    NoPassphrase {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: String,
    },
}

/// What a key could not be sealed or opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SealError {
    /// It is not the one with which it was sealed, or the text was changed.
    WrongPassphrase,
    /// No text of this form, or no key.
    Malformed,
}

/// What the keys are sealed with. Wiped when it is dropped, and never shown.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// The first line of a file, which may be a link, as mounted secrets are, but none that everybody may use.
    ///
    /// # Errors
    /// See [`PassphraseError`].
    pub fn read(path: &Path) -> Result<Self, PassphraseError> {
        let unreadable = |error| PassphraseError::Unreadable {
            path: path.into(),
            error,
        };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & 0o007 != 0 {
            let path = path.into();
            return Err(PassphraseError::Wide { path, mode });
        }
        let mut text = Zeroizing::new(String::new());
        let mut few = file.take(BYTES_MAX + 1);
        few.read_to_string(&mut text).map_err(unreadable)?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let characters = line.chars().count();
        let what = if text.len() as u64 > BYTES_MAX {
            format!("more than {BYTES_MAX} bytes")
        } else if line.contains('\n') {
            "several lines".into()
        } else if characters < CHARACTERS_MIN {
            format!("{characters} characters")
        } else {
            return Ok(Self(Zeroizing::new(line.into())));
        };
        let path = path.into();
        Err(PassphraseError::NoPassphrase { path, what })
    }

    /// A key in PKCS #8 form, as PEM.
    pub(super) fn seal(&self, key: &[u8]) -> Result<Zeroizing<String>, SealError> {
        let key = PrivateKeyInfoRef::try_from(key).map_err(|_| SealError::Malformed)?;
        let sealed = key.encrypt(self.0.as_bytes());
        let sealed = sealed.map_err(|_| SealError::Malformed)?;
        let label = EncryptedPrivateKeyInfoRef::PEM_LABEL;
        let pem = sealed.to_pem(label, LineEnding::LF);
        pem.map_err(|_| SealError::Malformed)
    }

    /// The key that [`seal`](Self::seal) made this of.
    pub(super) fn open(&self, pem: &str) -> Result<SecretDocument, SealError> {
        let (_, sealed) = SecretDocument::from_pem(pem).map_err(|_| SealError::Malformed)?;
        let sealed = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes());
        let sealed = sealed.map_err(|_| SealError::Malformed)?;
        let key = sealed.decrypt(self.0.as_bytes());
        key.map_err(|_| SealError::WrongPassphrase)
    }
}

/// The sealed key in a text of several PEM blocks.
pub(super) fn block(text: &str) -> Option<&str> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let begin = text.find(BEGIN)?;
    let end = text[begin..].find(END)? + begin + END.len();
    text.get(begin..end)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::KeyPair;

    use super::*;

    fn read(text: &str, mode: u32) -> Result<Passphrase, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Passphrase::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_passphrase_is_one_line_that_not_everybody_may_read() {
        assert_eq!(*read("correct horse\n", 0o600).unwrap().0, "correct horse");
        assert_eq!(
            *read("correct horse\r\n", 0o440).unwrap().0,
            "correct horse"
        );
        let refused = |text: &str, mode| read(text, mode).err().unwrap();
        assert!(refused("correct horse", 0o644).contains("chmod 0600"));
        assert!(refused("short\n", 0o600).contains("holds 5 characters"));
        assert!(refused("", 0o600).contains("holds 0 characters"));
        assert!(refused("correct horse\nbattery\n", 0o600).contains("several lines"));
        assert!(refused(&"x".repeat(5000), 0o600).contains("more than 4096 bytes"));
        let nowhere = Passphrase::read(Path::new("/nonexistent/passphrase"));
        assert!(
            nowhere
                .err()
                .unwrap()
                .to_string()
                .contains("/nonexistent/passphrase")
        );
    }

    #[test]
    fn a_sealed_key_is_opened_by_its_passphrase_alone() {
        let passphrase = read("correct horse", 0o600).unwrap();
        let key = KeyPair::generate().unwrap();
        let sealed = passphrase.seal(key.serialized_der()).unwrap();
        assert!(sealed.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let text = format!(
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n{}",
            *sealed
        );
        let opened = passphrase.open(block(&text).unwrap()).unwrap();
        let again = KeyPair::try_from(opened.as_bytes()).unwrap();
        assert_eq!(again.public_key_raw(), key.public_key_raw());
        let other = read("battery staple", 0o600).unwrap();
        assert_eq!(other.open(&sealed).err(), Some(SealError::WrongPassphrase));
        assert_eq!(passphrase.seal(b"no key").err(), Some(SealError::Malformed));
        assert_eq!(passphrase.open("no key").err(), Some(SealError::Malformed));
    }
}
