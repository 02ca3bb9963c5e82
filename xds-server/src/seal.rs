//! What nobody may read who has no more than the bytes: sealed by AES-256-GCM, under a key that is derived from a
//! secret for one purpose.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

/// What a sealed text begins with: its form.
const FORM: &[u8] = b"mumbai-mesh sealed 1\n";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// What is sealed: what is sealed for one purpose is not opened for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The certificate authority, in a store that servers share.
    Authority,
    /// A backup.
    Backup,
}

impl Purpose {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Authority => b"mumbai-mesh certificate authority",
            Self::Backup => b"mumbai-mesh backup",
        }
    }
}

/// A key cannot be made, or a text cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
    /// Another secret sealed it, or it was changed since.
    #[error("another secret sealed it, or it was changed since")]
    Other,
}

/// Seals.
///
/// # Errors
/// Without randomness.
pub fn seal(purpose: Purpose, secret: &[u8], text: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut random = [0; SALT_BYTES + NONCE_BYTES];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| OpenError::NoRandom)?;
    let (salt, nonce) = random.split_at(SALT_BYTES);
    let mut sealed = Zeroizing::new(text.to_vec());
    let key = key(purpose, secret, salt).map_err(|_| OpenError::Other)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Other)?;
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(FORM), &mut sealed);
    let tag = tag.map_err(|_| OpenError::Other)?;
    Ok([FORM, &random, &sealed, tag.as_ref()].concat())
}

/// Opens what [`seal`] made.
///
/// # Errors
/// What this secret did not seal.
pub fn open(
    purpose: Purpose,
    secret: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let opened = || -> Option<Zeroizing<Vec<u8>>> {
        let rest = sealed.strip_prefix(FORM)?;
        let (salt, rest) = rest.split_at_checked(SALT_BYTES)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_BYTES)?;
        let key = key(purpose, secret, salt).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(rest.to_vec());
        let length = key
            .open_in_place(nonce, Aad::from(FORM), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    };
    opened().ok_or(OpenError::Other)
}

fn key(purpose: Purpose, secret: &[u8], salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    let info = [purpose.bytes()];
    let okm = derived.expand(&info, &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(okm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_that_sealed_opens_for_its_purpose_and_nothing_else_does() {
        use Purpose::{Authority, Backup};
        let text = b"-----BEGIN PRIVATE KEY-----";
        let sealed = seal(Authority, b"a secret", text).unwrap();
        assert_eq!(**open(Authority, b"a secret", &sealed).unwrap(), *text);
        assert_ne!(sealed, seal(Authority, b"a secret", text).unwrap());
        assert!(!sealed.windows(text.len()).any(|window| window == text));
        assert_eq!(open(Authority, b"another", &sealed), Err(OpenError::Other));
        assert_eq!(open(Backup, b"a secret", &sealed), Err(OpenError::Other));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let opened = open(Authority, b"a secret", &changed);
            assert_eq!(opened, Err(OpenError::Other), "{at}");
            let opened = open(Authority, b"a secret", &sealed[..at]);
            assert_eq!(opened, Err(OpenError::Other), "{at}");
        }
    }
}
