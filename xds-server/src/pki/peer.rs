//! Who a client certificate says its holder is. That it was issued by our authority and is in time, TLS
//! has verified; what SPIFFE demands, TLS knows nothing of.

use std::fmt;

use policy::{time::WallTime, units::ServiceName};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use super::check;
use crate::mesh::TrustDomain;

/// The holder of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Of its SPIFFE ID.
    pub trust_domain: TrustDomain,
    /// The service or gateway of its SPIFFE ID: the `node.cluster` that it may be.
    pub name: ServiceName,
    /// The subject's common name: the `node.id` that it may be.
    pub node_id: String,
    /// When it ends.
    pub not_after: WallTime,
}

/// Why a certificate says nothing about who its holder is. For the log; the holder is told less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied(String);

impl fmt::Display for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Peer {
    /// Reads the certificate that a client showed.
    ///
    /// # Errors
    /// Anything but exactly one URI, which is the SPIFFE ID of a service or gateway.
    pub fn of(certificate: &[u8]) -> Result<Self, Denied> {
        let denied = |text: &str| Denied(text.into());
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| denied("a certificate that cannot be read"))?;
        if parsed.is_ca() {
            return Err(denied("a certificate authority is no client"));
        }
        let uris = uris(&parsed);
        let [uri] = uris.as_slice() else {
            return Err(Denied(format!(
                "exactly one URI must be in its certificate, not {}",
                uris.len()
            )));
        };
        let (trust_domain, name) = member(uri).ok_or_else(|| {
            let shown: String = uri.escape_default().take(200).collect();
            Denied(format!(
                "{shown:?} is the SPIFFE ID of no service and no gateway"
            ))
        })?;
        let mut names = parsed.subject().iter_common_name();
        let node_id = names.next().and_then(|name| name.as_str().ok());
        Ok(Self {
            trust_domain,
            name,
            node_id: node_id.unwrap_or_default().to_string(),
            not_after: check::validity(&parsed).1,
        })
    }

    /// Its SPIFFE ID.
    pub fn spiffe_id(&self) -> String {
        self.trust_domain.member(&self.name)
    }
}

/// Trust domain and name of a SPIFFE ID; only in the one spelling that we issue.
fn member(uri: &str) -> Option<(TrustDomain, ServiceName)> {
    let (domain, _) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let domain = TrustDomain::new(domain).ok()?;
    let name = uri.strip_prefix(&domain.members())?;
    Some((domain, ServiceName::new(name).ok()?))
}

/// Every URI among its names.
pub(super) fn uris<'c>(certificate: &'c X509Certificate<'_>) -> Vec<&'c str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect()
}
