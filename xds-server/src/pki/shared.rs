//! The authority of several servers: it is made once, kept sealed in the store that they share, and mirrored to
//! the folder of each, where everything else finds it. Each renews the issuing certificate of its own; all
//! stand below the same root.

use std::time::Duration;

use policy::time::WallTime;
use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{CaError, Folder, OpenAuthority, tier::Ca};
use crate::{
    seal::{self, OpenError, Purpose},
    store::{Store, StoreError},
};

const AUTHORITY: &str = "certificate-authority";
/// Of a store whose servers were given no secret.
const OWN_SECRET: &str = "certificate-authority-secret";

/// Why there is no shared authority.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The folder's own.
    #[error(transparent)]
    Folder(#[from] CaError),
    /// No store, no authority.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be opened.
    #[error(
        "the certificate authority in the store: {0}; is --store-secret-file the one of the other servers?"
    )]
    Sealed(#[from] OpenError),
    /// It is no authority.
    #[error("the certificate authority in the store is damaged; bring it back from a backup")]
    Damaged,
}

/// Makes the folder hold the store's authority. Where the store has none yet, it gets the folder's, or a new one.
///
/// # Errors
/// Why it does not; among others that the folder holds another one.
pub fn share(
    store: &dyn Store,
    secret: &[u8],
    folder: &Folder,
    life: Duration,
    now: WallTime,
) -> Result<(), ShareError> {
    let secret = match secret {
        [] => own_secret(store)?,
        given => Zeroizing::new(given.to_vec()),
    };
    loop {
        if let Some(kept) = store.secret(AUTHORITY)? {
            let text = seal::open(Purpose::Authority, &secret, &kept.bytes)?;
            let kept: OpenAuthority =
                serde_json::from_slice(&text).map_err(|_| ShareError::Damaged)?;
            let ca = kept.read(now).map_err(|_| ShareError::Damaged)?;
            folder.mirror(&ca, now)?;
            return Ok(());
        }
        let ca = match folder.load(now) {
            Err(CaError::None(_)) => Ca::make(life, now).map_err(CaError::from)?,
            loaded => loaded?,
        };
        let open = OpenAuthority::of(&ca).map_err(|_| ShareError::Damaged)?;
        let text = serde_json::to_vec(&open).map_err(|_| ShareError::Damaged)?;
        let sealed = seal::seal(Purpose::Authority, &secret, &Zeroizing::new(text))?;
        match store.keep_secret(AUTHORITY, 0, &sealed) {
            Ok(_) => info!("the certificate authority is in the store"),
            // Another server was faster: its authority counts. So does ours, when only the answer was lost.
            Err(StoreError::Moved { .. } | StoreError::Uncertain { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A secret beside what it seals keeps nobody out who may read the store.
fn own_secret(store: &dyn Store) -> Result<Zeroizing<Vec<u8>>, ShareError> {
    warn!(
        "no --store-secret-file: whoever may read the store may read the certificate authority's keys"
    );
    loop {
        if let Some(kept) = store.secret(OWN_SECRET)? {
            return Ok(kept.bytes);
        }
        let mut made = Zeroizing::new(vec![0; 32]);
        let filled = SystemRandom::new().fill(&mut made);
        filled.map_err(|_| OpenError::NoRandom)?;
        match store.keep_secret(OWN_SECRET, 0, &made) {
            Ok(_) => return Ok(made),
            Err(StoreError::Moved { .. } | StoreError::Uncertain { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, pki::days, store::Embedded};

    struct World {
        dir: tempfile::TempDir,
        store: Embedded,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Embedded::open(&dir.path().join("store")).unwrap();
            Self { dir, store }
        }

        fn folder(&self, server: &str) -> Folder {
            let state_dir = self.dir.path().join(server);
            std::fs::create_dir_all(&state_dir).unwrap();
            Folder::of(&state_dir, None)
        }

        fn share(&self, server: &str, secret: &[u8]) -> Result<String, ShareError> {
            let folder = self.folder(server);
            share(&self.store, secret, &folder, days(10), clock::now())?;
            Ok(folder.load(clock::now())?.bundle())
        }
    }

    #[test]
    fn every_server_has_the_authority_that_the_first_one_made() {
        for secret in [&b""[..], b"given to all"] {
            let world = World::new();
            let first = world.share("one", secret).unwrap();
            assert_eq!(world.share("two", secret).unwrap(), first);
            assert_eq!(world.share("one", secret).unwrap(), first, "again");
            let kept = world.store.secret(AUTHORITY).unwrap().unwrap();
            let has_key = String::from_utf8_lossy(&kept.bytes).contains("PRIVATE KEY");
            assert!(!has_key);
        }
    }

    #[test]
    fn what_a_folder_holds_already_moves_into_the_store_and_is_never_overwritten() {
        let world = World::new();
        let (ca, _) = world
            .folder("one")
            .load_or_make(days(10), clock::now())
            .unwrap();
        assert_eq!(world.share("one", b"secret").unwrap(), ca.bundle());
        assert_eq!(world.share("two", b"secret").unwrap(), ca.bundle());
        let (other, _) = world
            .folder("three")
            .load_or_make(days(10), clock::now())
            .unwrap();
        let refused = world.share("three", b"secret").unwrap_err().to_string();
        assert!(
            refused.contains("another authority than the store"),
            "{refused}"
        );
        let kept = world.folder("three").load(clock::now()).unwrap();
        assert_eq!(kept.bundle(), other.bundle());
    }

    #[test]
    fn a_server_with_another_secret_is_told_so() {
        let world = World::new();
        world.share("one", b"secret").unwrap();
        let refused = world.share("two", b"other").unwrap_err().to_string();
        assert!(refused.contains("--store-secret-file"), "{refused}");
    }
}
