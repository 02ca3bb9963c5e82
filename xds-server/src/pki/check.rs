//! What must hold of an authority before it issues, and of a secret before an Envoy is sent it. Envoy
//! accepts an empty chain or a key that does not fit, and breaks with the next change.

use policy::time::WallTime;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{sync::Arc, time::Duration};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Credentials, Identity, Purpose, peer, provider, seconds, tier::Ca};
use crate::{mesh::TrustDomain, text::hex};

/// What is wrong with a certificate or its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// None, or one that cannot be read.
    #[error("it holds no certificate that can be read")]
    NoCertificate,
    /// None, or one that cannot be read.
    #[error("it holds no private key in PKCS #8 form that can be read")]
    NoKey,
    /// Under a passphrase that was not given.
    #[error(
        "its private key is under a passphrase: give the file that holds it, --ca-passphrase-file"
    )]
    Sealed,
    /// Under another passphrase.
    #[error(
        "its private key is not opened by this passphrase: give the file with the right one, --ca-passphrase-file"
    )]
    WrongPassphrase,
    /// Of another certificate.
    #[error("the private key is not the certificate's")]
    WrongKey,
    /// A leaf.
    #[error("the certificate is no CA's (basicConstraints CA:TRUE is missing)")]
    NoCa,
    /// A CA that may not sign certificates.
    #[error("the certificate may not sign others (keyUsage keyCertSign is missing)")]
    NoCertSign,
    /// Too late.
    #[error("the certificate ended at {} (Unix time)", seconds(*.0))]
    Expired(WallTime),
    /// Too early.
    #[error("the certificate begins at {} (Unix time): is this machine's clock right?", seconds(*.0))]
    NotYetValid(WallTime),
    /// An algorithm that not every Envoy can use.
    #[error("the key is no ECDSA key on the curve P-256")]
    Algorithm,
    /// A chain that does not lead to the root.
    #[error("what it signs does not verify against the root: {0}")]
    Chain(String),
    /// A certificate of somebody else.
    #[error("the certificate is not that of {0}")]
    Identity(String),
}

/// That a certificate is a CA's and that the key is its; when it is valid.
pub(super) fn tier(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
) -> Result<(WallTime, WallTime), Flaw> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Flaw::NoCertificate)?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(Flaw::WrongKey);
    }
    if !parsed.is_ca() {
        return Err(Flaw::NoCa);
    }
    let usage = parsed.key_usage().ok().flatten();
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(Flaw::NoCertSign);
    }
    Ok(validity(&parsed))
}

/// Which of the two files is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Root,
    Issuing,
}

/// That an authority is valid now, and that what it issues verifies: by issuing something.
pub(super) fn ca(ca: &Ca, now: WallTime) -> Result<(), (Which, Flaw)> {
    for (which, tier) in [(Which::Root, &ca.root), (Which::Issuing, &ca.issuing)] {
        in_time((tier.not_before, tier.not_after), now).map_err(|flaw| (which, flaw))?;
    }
    let issuing = Which::Issuing;
    let somebody = Identity::Server(TrustDomain::default());
    let issued = ca.issue(&somebody, Purpose::Traffic, Duration::from_secs(60), now);
    match issued {
        Ok(_) => Ok(()),
        Err(super::IssueError::Unusable(flaw)) => Err((issuing, flaw)),
        Err(error) => Err((issuing, Flaw::Chain(error.to_string()))),
    }
}

fn in_time((not_before, not_after): (WallTime, WallTime), now: WallTime) -> Result<(), Flaw> {
    if now >= not_after {
        return Err(Flaw::Expired(not_after));
    }
    if now < not_before {
        return Err(Flaw::NotYetValid(not_before));
    }
    Ok(())
}

/// That a secret is what its receiver takes it for: leaf first, its own key, a chain to the bundle, the
/// right name, an algorithm that every Envoy knows.
pub(super) fn credentials(credentials: &Credentials, now: WallTime) -> Result<(), Flaw> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(credentials.chain.as_bytes()).collect();
    let chain = chain.map_err(|_| Flaw::NoCertificate)?;
    let (leaf, above) = chain.split_first().ok_or(Flaw::NoCertificate)?;
    let key =
        PrivatePkcs8KeyDer::from_pem_slice(credentials.key.as_bytes()).map_err(|_| Flaw::NoKey)?;
    let key = KeyPair::try_from(&key).map_err(|_| Flaw::NoKey)?;
    if !key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256) {
        return Err(Flaw::Algorithm);
    }
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Flaw::NoCertificate)?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(Flaw::WrongKey);
    }
    in_time(validity(&parsed), now)?;
    let expected = credentials.identity.spiffe_id();
    if parsed.is_ca() || peer::uris(&parsed) != [expected.as_str()] {
        return Err(Flaw::Identity(expected));
    }
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(credentials.bundle.as_bytes()) {
        let root = root.map_err(|_| Flaw::NoCertificate)?;
        let added = roots.add(root);
        added.map_err(|error| Flaw::Chain(error.to_string()))?;
    }
    chain_leads(leaf, above, roots, now)
}

fn chain_leads(
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    roots: RootCertStore,
    now: WallTime,
) -> Result<(), Flaw> {
    let failed = |error: &dyn ToString| Flaw::Chain(error.to_string());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| failed(&error))?;
    let since = u64::try_from(seconds(now)).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(since));
    verifier
        .verify_client_cert(leaf, above, now)
        .map(|_| ())
        .map_err(|error| failed(&error))
}

/// The subject's common name, and the serial number in hex.
pub(super) fn described(certificate: &CertificateDer<'_>) -> Option<(String, String)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next().and_then(|name| name.as_str().ok());
    Some((name.unwrap_or_default().into(), hex(parsed.raw_serial())))
}

pub(super) fn validity(certificate: &X509Certificate<'_>) -> (WallTime, WallTime) {
    let validity = certificate.validity();
    let at = |at: &x509_parser::time::ASN1Time| WallTime::from_unix_seconds(at.timestamp());
    (at(&validity.not_before), at(&validity.not_after))
}
