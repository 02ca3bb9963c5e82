//! What nobody may read who reads the store: sealed by AES-256-GCM, under a key that is derived from a secret
//! which every server is given.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

/// What a sealed text begins with: its form.
const FORM: &[u8] = b"mumbai-mesh sealed 1\n";
const PURPOSE: &[u8] = b"mumbai-mesh certificate authority";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

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
pub fn seal(secret: &[u8], text: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut random = [0; SALT_BYTES + NONCE_BYTES];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| OpenError::NoRandom)?;
    let (salt, nonce) = random.split_at(SALT_BYTES);
    let mut sealed = Zeroizing::new(text.to_vec());
    let key = key(secret, salt).map_err(|_| OpenError::Other)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Other)?;
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(FORM), &mut sealed);
    let tag = tag.map_err(|_| OpenError::Other)?;
    Ok([FORM, &random, &sealed, tag.as_ref()].concat())
}

/// Opens what [`seal`] made.
///
/// # Errors
/// What this secret did not seal.
pub fn open(secret: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let opened = || -> Option<Zeroizing<Vec<u8>>> {
        let rest = sealed.strip_prefix(FORM)?;
        let (salt, rest) = rest.split_at_checked(SALT_BYTES)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_BYTES)?;
        let key = key(secret, salt).ok()?;
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

fn key(secret: &[u8], salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    let okm = derived.expand(&[PURPOSE], &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(okm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_that_sealed_opens_and_nothing_else_does() {
        let text = b"-----BEGIN PRIVATE KEY-----";
        let sealed = seal(b"a secret", text).unwrap();
        assert_eq!(**open(b"a secret", &sealed).unwrap(), *text);
        assert_ne!(sealed, seal(b"a secret", text).unwrap());
        assert!(!sealed.windows(text.len()).any(|window| window == text));
        assert_eq!(open(b"another", &sealed), Err(OpenError::Other));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(b"a secret", &changed), Err(OpenError::Other), "{at}");
            assert_eq!(
                open(b"a secret", &sealed[..at]),
                Err(OpenError::Other),
                "{at}"
            );
        }
    }
}
