//! Leaves: one key and certificate for each identity, below the issuing certificate.

use std::{fmt, time::Duration};

use policy::time::WallTime;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use zeroize::Zeroizing;

use super::{
    Identity, before, check,
    tier::{CLOCK_SKEW, Ca, date, pem_of, serial},
};
use crate::text::hex;

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The issuer has no time left.
    #[error("the issuer's certificate ended at {} (Unix time)", .0.unix_millis() / 1000)]
    IssuerExpired(WallTime),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// A time that no certificate can hold.
    #[error("the clock shows a time that no certificate can hold")]
    Date,
    /// What was made would not have been accepted.
    #[error("what was issued is no good: {0}")]
    Unusable(#[from] check::Flaw),
    /// Anything else.
    #[error(transparent)]
    Library(#[from] rcgen::Error),
}

/// What a leaf is for, which decides its subject's name.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'n> {
    /// Traffic of the mesh: all Envoys of a service share it.
    Traffic,
    /// The xDS client certificate of the node with this id.
    Node(&'n str),
}

/// A key, its certificate with the issuing one behind it, and whom to trust. The key is in memory only.
pub struct Credentials {
    /// Whose.
    pub identity: Identity,
    /// Leaf first, then the issuing certificate: PEM.
    pub chain: String,
    /// PKCS #8, PEM.
    pub key: Zeroizing<String>,
    /// The roots to trust: PEM.
    pub bundle: String,
    /// Lower-case hex.
    pub serial: String,
    /// When it was issued: life counts from here, not from `not_before`.
    pub issued_at: WallTime,
    /// Valid from.
    pub not_before: WallTime,
    /// Valid until.
    pub not_after: WallTime,
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.identity.spiffe_id(), self.serial)
    }
}

impl Ca {
    /// A new key and certificate, checked as they will be used. It never outlives its issuer.
    ///
    /// # Errors
    /// An issuer without time left; a system without randomness.
    pub fn issue(
        &self,
        identity: &Identity,
        purpose: Purpose<'_>,
        life: Duration,
        now: WallTime,
    ) -> Result<Credentials, IssueError> {
        let issuing = &self.issuing;
        let not_after = now.saturating_add(life).min(issuing.not_after);
        if not_after <= now {
            return Err(IssueError::IssuerExpired(issuing.not_after));
        }
        let not_before = before(now, CLOCK_SKEW);
        let serial = serial()?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        let name = match purpose {
            Purpose::Traffic => identity.name(),
            Purpose::Node(id) => id,
        };
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::URI(identity.spiffe_id().try_into()?)];
        for name in identity.dns() {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.try_into()?));
        }
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &issuing.issuer)?;
        let credentials = Credentials {
            identity: identity.clone(),
            chain: format!("{}{}", pem_of(leaf.der()), pem_of(&issuing.certificate)),
            key: Zeroizing::new(key.serialize_pem()),
            bundle: self.bundle(),
            serial: hex(&serial),
            issued_at: now,
            not_before,
            not_after,
        };
        check::credentials(&credentials, now)?;
        Ok(credentials)
    }
}
