//! A token: what its owner shows, and what is kept of it.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::pki;

/// So that scanners of leaked secrets, and people, know one when they see it.
const PREFIX: &str = "mmt_";
const BYTES: usize = 32;

/// What its owner shows: 256 random bits. It is told once and kept nowhere.
pub struct Secret(Zeroizing<String>);

/// SHA-256 of a secret. Nobody finds 256 random bits by it, so there is no need to be slow or salted.
pub type Digest = [u8; 32];

/// The system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        pki::provider()
            .secure_random
            .fill(&mut *bytes)
            .map_err(|_| NoRandomness)?;
        let text = BASE64_URL_SAFE_NO_PAD.encode(*bytes);
        Ok(Self(Zeroizing::new(format!("{PREFIX}{text}"))))
    }

    /// As it is shown, once.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn digest(&self) -> Digest {
        digest(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a token")
    }
}

/// Of whatever somebody shows.
pub(super) fn digest(shown: &[u8]) -> Digest {
    Sha256::digest(shown).into()
}

/// Reads [`hex`].
pub(super) fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (number, byte) in digest.iter_mut().enumerate() {
        let digits = text.get(2 * number..2 * number + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(digest)
}

/// By what people know a token: who or what has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenName(Box<str>);

impl TokenName {
    const CHARS_MAX: usize = 63;

    /// Letters, digits, `-`, `_`, `.` and `@`, at most 63.
    ///
    /// # Errors
    /// What is legal.
    pub fn new(text: &str) -> Result<Self, String> {
        let legal =
            |character: char| character.is_ascii_alphanumeric() || "-_.@".contains(character);
        if (1..=Self::CHARS_MAX).contains(&text.len()) && text.chars().all(legal) {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "{text:?} must be 1 to {} letters, digits, '-', '_', '.' or '@', such as ci or asha@example.com",
            Self::CHARS_MAX
        ))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::text::hex;

    #[test]
    fn a_token_has_256_random_bits_and_is_known_by_its_beginning() {
        let all: HashSet<String> = (0..100)
            .map(|_| Secret::generate().unwrap().text().to_string())
            .collect();
        assert_eq!(all.len(), 100);
        for text in &all {
            let random = text.strip_prefix("mmt_").unwrap();
            assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
        }
        let secret = Secret::generate().unwrap();
        assert!(!format!("{secret:?}").contains(&secret.text()[4..]));
    }

    #[test]
    fn digests_are_read_as_they_are_written() {
        let digest = digest(b"abc");
        let text = hex(&digest);
        assert_eq!(
            text,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(from_hex(&text), Some(digest));
        for wrong in [
            "",
            "ba",
            &text[1..],
            &text.replace('b', "x"),
            &"é".repeat(32),
        ] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["ci", "asha@example.com", "a_b-c.d"] {
            assert_eq!(TokenName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\nb", "é", &"x".repeat(64)] {
            assert!(TokenName::new(bad).is_err(), "{bad}");
        }
    }
}
