//! The authority's keys at rest, under a passphrase: `ENCRYPTED PRIVATE KEY` of PKCS #8 (RFC 5958), by scrypt and
//! AES-256, as openssl reads it too.

use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument,
    der::pem::{LineEnding, PemLabel as _},
};
use zeroize::Zeroizing;

/// Fewer characters are guessed.
pub(super) const CHARACTERS_MIN: usize = 12;
/// A passphrase is a line, not a file.
pub(super) const BYTES_MAX: usize = 4096;

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
    /// Of a file's text: one line.
    ///
    /// # Errors
    /// What it is instead.
    pub(super) fn of_text(text: &str) -> Result<Self, String> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let characters = line.chars().count();
        if text.len() > BYTES_MAX {
            Err(format!("more than {BYTES_MAX} bytes"))
        } else if line.contains('\n') {
            Err("several lines".into())
        } else if characters < CHARACTERS_MIN {
            Err(format!("{characters} characters"))
        } else {
            Ok(Self(Zeroizing::new(line.into())))
        }
    }

    /// What a key is made of.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
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
    use rcgen::KeyPair;

    use super::*;

    #[test]
    fn a_passphrase_is_one_line() {
        let read = |text: &str| Passphrase::of_text(text);
        for text in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            assert_eq!(*read(text).unwrap().0, "correct horse");
        }
        let refused = |text: &str| read(text).err().unwrap();
        assert_eq!(refused("short\n"), "5 characters");
        assert_eq!(refused(""), "0 characters");
        assert_eq!(refused("correct horse\nbattery\n"), "several lines");
        assert_eq!(refused(&"x".repeat(5000)), "more than 4096 bytes");
    }

    #[test]
    fn a_sealed_key_is_opened_by_its_passphrase_alone() {
        let passphrase = Passphrase::of_text("correct horse").unwrap();
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
        let other = Passphrase::of_text("battery staple").unwrap();
        assert_eq!(other.open(&sealed).err(), Some(SealError::WrongPassphrase));
        assert_eq!(passphrase.seal(b"no key").err(), Some(SealError::Malformed));
        assert_eq!(passphrase.open("no key").err(), Some(SealError::Malformed));
    }
}
