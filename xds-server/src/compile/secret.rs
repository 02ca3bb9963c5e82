//! Secrets, delivered by SDS: a node's own certificate and key, and whom to trust. They are no drafts:
//! nothing of a key goes through JSON or a cache.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, TlsCertificate, secret,
    },
};
use prost::Message as _;
use zeroize::Zeroizing;

use super::encode::version;
use crate::resource::{Collection, Resource};

/// Name of a node's own certificate.
pub const OWN: &str = "default";
/// Name of the roots to trust.
pub const TRUSTED: &str = "ROOTCA";

/// What a node is sent: PEM of its chain and key, and of the roots to trust.
pub fn secrets(chain: &str, key: &str, bundle: &str) -> Collection {
    let text = |text: &str| DataSource {
        specifier: Some(Specifier::InlineString(text.into())),
        ..DataSource::default()
    };
    let own = TlsCertificate {
        certificate_chain: Some(text(chain)),
        private_key: Some(text(key)),
        ..TlsCertificate::default()
    };
    let trusted = CertificateValidationContext {
        trusted_ca: Some(text(bundle)),
        ..CertificateValidationContext::default()
    };
    let own = secret::Type::TlsCertificate(own);
    let trusted = secret::Type::ValidationContext(trusted);
    Collection::new(vec![
        resource(OWN, &version(chain), own),
        resource(TRUSTED, &version(bundle), trusted),
    ])
}

/// A certificate has one key, so the chain's hash says all of the version.
fn resource(name: &str, version: &str, content: secret::Type) -> Arc<Resource> {
    let mut secret = Secret {
        name: name.into(),
        r#type: Some(content),
    };
    let body = Zeroizing::new(secret.encode_to_vec());
    if let Some(secret::Type::TlsCertificate(certificate)) = &mut secret.r#type {
        let key = certificate.private_key.take();
        if let Some(Specifier::InlineString(key)) = key.and_then(|key| key.specifier) {
            drop(Zeroizing::new(key));
        }
    }
    Arc::new(Resource::secret(name, version, &body))
}
