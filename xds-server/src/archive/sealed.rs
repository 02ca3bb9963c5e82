//! A backup's file: an archive, sealed under a key that is made of a passphrase (scrypt, RFC 7914). Who makes a
//! backup makes the key, so the passphrase never leaves their machine.

use ring::rand::{SecureRandom as _, SystemRandom};
use scrypt::Params;
use zeroize::Zeroizing;

use crate::{
    pki::Passphrase,
    seal::{self, OpenError, Purpose},
};

/// What a backup's file begins with.
const FORM: &[u8] = b"mumbai-mesh backup 1\n";
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// 2^17 rounds of 8 blocks: 128 MiB and a third of a second for whoever tries one passphrase (OWASP's figures).
const LOG_ROUNDS: u8 = 17;
const BLOCKS: u32 = 8;

/// What a backup is sealed with.
pub struct BackupKey {
    salt: [u8; SALT_BYTES],
    key: Zeroizing<[u8; KEY_BYTES]>,
}

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// It is something else.
    #[error("this is no backup of mumbai-mesh")]
    NoBackup,
    /// Another passphrase, or a changed file.
    #[error("another passphrase sealed it, or it was changed since")]
    Other,
}

impl BackupKey {
    /// A new one of a passphrase.
    ///
    /// # Errors
    /// Without randomness.
    pub fn make(passphrase: &Passphrase) -> Result<Self, OpenError> {
        let mut salt = [0; SALT_BYTES];
        let filled = SystemRandom::new().fill(&mut salt);
        filled.map_err(|_| OpenError::NoRandom)?;
        Ok(Self::of(passphrase, salt))
    }

    fn of(passphrase: &Passphrase, salt: [u8; SALT_BYTES]) -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        // These parameters and this length are legal.
        if let Ok(params) = Params::new(LOG_ROUNDS, BLOCKS, 1) {
            let made = scrypt::scrypt(passphrase.as_bytes(), &salt, &params, &mut *key);
            debug_assert!(made.is_ok(), "{made:?}");
        }
        Self { salt, key }
    }

    /// The key itself, which whoever seals is given.
    pub fn bytes(&self) -> &[u8] {
        &*self.key
    }
}

/// A backup's file of what was sealed with a key.
pub fn wrap(key: &BackupKey, sealed: &[u8]) -> Vec<u8> {
    [FORM, &key.salt, sealed].concat()
}

/// What a backup's file holds.
///
/// # Errors
/// See [`NotOpened`].
pub fn open(passphrase: &Passphrase, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
    let rest = file.strip_prefix(FORM).ok_or(NotOpened::NoBackup)?;
    let (salt, sealed) = rest.split_first_chunk().ok_or(NotOpened::NoBackup)?;
    let key = BackupKey::of(passphrase, *salt);
    let opened = seal::open(Purpose::Backup, key.bytes(), sealed);
    opened.map_err(|_| NotOpened::Other)
}
