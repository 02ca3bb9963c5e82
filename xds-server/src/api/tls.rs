//! The API's own certificate: a folder with `tls.crt` and `tls.key`, as Kubernetes and cert-manager write
//! it, followed while it changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use policy::time::{WallTime, format_instant};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use tokio::sync::watch;
use tracing::{error, info, warn};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    clock,
    file_events::{FileEvents, settled},
    pki,
};

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Why a certificate cannot be used: which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that holds something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A pair that does not serve.
    #[error("{}: {CHAIN} and {KEY} cannot be used together: {error}", folder.display())]
    Pair {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

/// The certificate in use.
pub struct ApiTls {
    folder: PathBuf,
    /// What it was opened with.
    opened: Arc<Pair>,
    config: watch::Sender<Arc<ServerConfig>>,
}

/// What is in the folder.
#[derive(PartialEq)]
struct Pair {
    chain: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl ApiTls {
    /// That of a folder.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(folder: &Path) -> Result<Self, TlsError> {
        let opened = Arc::new(read(folder)?);
        let config = config(folder, &opened)?;
        warn_of_end(folder, &opened);
        Ok(Self {
            opened,
            folder: folder.into(),
            config: watch::Sender::new(Arc::new(config)),
        })
    }

    /// Follows what is spoken.
    pub fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Follows the folder for ever; end it by dropping it. A pair that cannot be used leaves the one before
    /// in use: of two files, one is always written first.
    pub async fn run(&self) {
        let mut events = FileEvents::of_folder(&self.folder);
        let mut known = Some(Arc::clone(&self.opened));
        loop {
            events.next().await;
            let found = settled(&known, async || {
                let folder = self.folder.clone();
                let reading = tokio::task::spawn_blocking(move || read(&folder).ok().map(Arc::new));
                reading.await.ok().flatten()
            })
            .await;
            let Some(pair) = found.filter(|found| known.as_ref() != Some(found)) else {
                continue;
            };
            match config(&self.folder, &pair) {
                Ok(config) => {
                    self.config.send_replace(Arc::new(config));
                    info!(folder = %self.folder.display(), "the API has a new certificate");
                    warn_of_end(&self.folder, &pair);
                }
                Err(problem) => error!(%problem, "the API keeps the certificate that it has"),
            }
            known = Some(pair);
        }
    }
}

fn read(folder: &Path) -> Result<Pair, TlsError> {
    let read = |name: &str| {
        let path = folder.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Zeroizing::new(bytes)),
            Err(error) => Err(TlsError::Unreadable { path, error }),
        }
    };
    Ok(Pair {
        chain: read(CHAIN)?,
        key: read(KEY)?,
    })
}

fn config(folder: &Path, pair: &Pair) -> Result<ServerConfig, TlsError> {
    let empty = |name: &str, what| TlsError::Empty {
        path: folder.join(name),
        what,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pair.chain)
        .collect::<Result<_, _>>()
        .map_err(|_| empty(CHAIN, "certificate"))?;
    if chain.is_empty() {
        return Err(empty(CHAIN, "certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key).map_err(|_| empty(KEY, "private key"))?;
    let wrong = |error| TlsError::Pair {
        folder: folder.into(),
        error,
    };
    let mut config = ServerConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate that clients will refuse is served all the same: to serve none would help nobody.
fn warn_of_end(folder: &Path, pair: &Pair) {
    let Some(end) = end(pair) else {
        return;
    };
    if end <= clock::now() {
        let end = format_instant(end);
        warn!(folder = %folder.display(), end, "the API's certificate has ended: renew it");
    }
}

/// When the leaf ends.
fn end(pair: &Pair) -> Option<WallTime> {
    let leaf = CertificateDer::from_pem_slice(&pair.chain).ok()?;
    let (_, leaf) = X509Certificate::from_der(&leaf).ok()?;
    let seconds = leaf.validity().not_after.timestamp();
    Some(WallTime::from_unix_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    #[test]
    fn a_folder_without_a_pair_that_belongs_together_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let made = || {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_string()]).unwrap();
            (cert.pem(), signing_key.serialize_pem())
        };
        let refused = || ApiTls::open(path).err().unwrap().to_string();
        assert!(refused().contains("tls.crt cannot be read"));
        let (one, other) = (made(), made());
        fs::write(path.join(CHAIN), "").unwrap();
        fs::write(path.join(KEY), &other.1).unwrap();
        assert!(refused().contains("tls.crt holds no certificate"));
        fs::write(path.join(CHAIN), &one.0).unwrap();
        assert!(refused().contains("cannot be used together"));
        fs::write(path.join(KEY), &one.0).unwrap();
        assert!(refused().contains("tls.key holds no private key"));
        fs::write(path.join(KEY), &one.1).unwrap();
        assert!(ApiTls::open(path).is_ok());
    }

    #[test]
    fn the_end_of_a_certificate_is_read_of_its_leaf() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_string()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = rcgen::KeyPair::generate().unwrap();
        let pair = Pair {
            chain: Zeroizing::new(params.self_signed(&key).unwrap().pem().into_bytes()),
            key: Zeroizing::new(Vec::new()),
        };
        assert_eq!(format_instant(end(&pair).unwrap()), "2030-01-02T00:00:00Z");
    }
}
