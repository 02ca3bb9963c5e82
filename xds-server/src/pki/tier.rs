//! The two tiers of the authority: the root, which everybody trusts, and the certificate below it that
//! issues leaves. Whoever knows the issuing key knows no root key, and it can be replaced without
//! anybody noticing, since leaves carry its certificate along.

use std::time::Duration;

use policy::time::WallTime;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    IssueError, before, between,
    check::{self, Flaw},
    days, provider,
    sealed::{self, Passphrase, SealError},
    seconds,
};
use crate::text::hex;

/// Clocks of other machines may be behind by so much.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(120);
/// The issuing certificate's life.
const ISSUING_DAYS: u32 = 365;

/// Root and issuing certificate.
pub struct Ca {
    pub(super) root: Tier,
    pub(super) issuing: Tier,
}

/// A certificate that signs others, and its key.
pub(super) struct Tier {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) not_before: WallTime,
    pub(super) not_after: WallTime,
}

impl Ca {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn make(root_life: Duration, now: WallTime) -> Result<Self, IssueError> {
        let root = Tier::root(root_life, now)?;
        let issuing = Tier::issuing(&root, now)?;
        Ok(Self { root, issuing })
    }

    /// The certificate that everybody trusts, as PEM.
    pub fn bundle(&self) -> String {
        pem_of(&self.root.certificate)
    }

    /// When the issuing certificate is to be replaced: after two thirds of its life.
    pub(super) fn issuing_renews_at(&self) -> WallTime {
        let life = between(self.issuing.not_before, self.issuing.not_after);
        self.issuing.not_before.saturating_add(life * 2 / 3)
    }
}

impl Tier {
    fn root(life: Duration, now: WallTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let not_after = now.saturating_add(life);
        let params = params("mumbai-mesh root", 1, (now, not_after))?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            not_before: before(now, CLOCK_SKEW),
            not_after,
        })
    }

    /// Below a root, and never longer than it.
    pub(super) fn issuing(root: &Self, now: WallTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let not_after = now.saturating_add(days(ISSUING_DAYS)).min(root.not_after);
        if not_after <= now {
            return Err(IssueError::IssuerExpired(root.not_after));
        }
        let params = params("mumbai-mesh issuing", 0, (now, not_after))?;
        let certificate = params.signed_by(&key, &root.issuer)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            not_before: before(now, CLOCK_SKEW),
            not_after,
        })
    }

    /// Certificate and key of one PEM text. That both fit, and are what they must be, is checked.
    pub(super) fn from_pem(text: &str, passphrase: Option<&Passphrase>) -> Result<Self, Flaw> {
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| Flaw::NoCertificate)?
            .into_owned();
        let key = key_of(text, passphrase)?;
        let validity = check::tier(&certificate, &key)?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|_| Flaw::NoCertificate)?;
        Ok(Self {
            certificate,
            issuer,
            not_before: validity.0,
            not_after: validity.1,
        })
    }

    /// The subject's common name, and the serial number in hex.
    pub(super) fn described(&self) -> (String, String) {
        check::described(&self.certificate).unwrap_or_default()
    }

    /// As [`from_pem`](Self::from_pem) reads it.
    pub(super) fn to_pem(
        &self,
        passphrase: Option<&Passphrase>,
    ) -> Result<Zeroizing<String>, SealError> {
        let key = self.issuer.key();
        let key = match passphrase {
            Some(passphrase) => passphrase.seal(key.serialized_der())?,
            None => Zeroizing::new(key.serialize_pem()),
        };
        let text = format!("{}{}", pem_of(&self.certificate), *key);
        Ok(Zeroizing::new(text))
    }
}

fn key_of(text: &str, passphrase: Option<&Passphrase>) -> Result<KeyPair, Flaw> {
    let Some(sealed) = sealed::block(text) else {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| Flaw::NoKey)?;
        return KeyPair::try_from(&key).map_err(|_| Flaw::NoKey);
    };
    let opened = passphrase.ok_or(Flaw::Sealed)?.open(sealed);
    let opened = opened.map_err(|error| match error {
        SealError::WrongPassphrase => Flaw::WrongPassphrase,
        SealError::Malformed => Flaw::NoKey,
    })?;
    KeyPair::try_from(opened.as_bytes()).map_err(|_| Flaw::NoKey)
}

/// Of a CA below which there may be `below` more.
fn params(
    name: &str,
    below: u8,
    (now, not_after): (WallTime, WallTime),
) -> Result<CertificateParams, IssueError> {
    let serial = serial()?;
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    // Roots of different meshes must not share a name: clients look issuers up by it.
    subject.push(DnType::CommonName, format!("{name} {}", &hex(&serial)[..8]));
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(before(now, CLOCK_SKEW))?;
    params.not_after = date(not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

pub(super) fn date(at: WallTime) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(seconds(at)).map_err(|_| IssueError::Date)
}

/// 127 random bits.
pub(super) fn serial() -> Result<[u8; 16], IssueError> {
    let mut serial = [0; 16];
    provider()
        .secure_random
        .fill(&mut serial)
        .map_err(|_| IssueError::NoRandomness)?;
    // DER's integers have a sign.
    serial[0] &= 0x7f;
    Ok(serial)
}

/// `-----BEGIN CERTIFICATE-----`, in lines of 64.
pub(super) fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        pem += line;
        pem.push('\n');
        rest = behind;
    }
    pem + "-----END CERTIFICATE-----\n"
}
