//! Who a certificate is for.

use policy::units::ServiceName;

use crate::mesh::TrustDomain;

/// A name that this mesh's authority vouches for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A service or gateway: all of its Envoys.
    Member(TrustDomain, ServiceName),
    /// This server.
    Server(TrustDomain),
}

/// The server's DNS name, for clients that check no SPIFFE ID.
const SERVER_DNS: &str = "mumbai-mesh";

impl Identity {
    /// The SPIFFE ID: the only URI of the certificate.
    pub fn spiffe_id(&self) -> String {
        match self {
            Self::Member(domain, name) => domain.member(name),
            Self::Server(domain) => domain.server(),
        }
    }

    /// The certificate's DNS names.
    pub fn dns(&self) -> Vec<String> {
        match self {
            Self::Member(domain, name) => vec![name.to_string(), domain.dns(name)],
            Self::Server(_) => vec![SERVER_DNS.into()],
        }
    }

    /// Where it is a name.
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Member(domain, _) | Self::Server(domain) => domain,
        }
    }

    /// The name that people know: a service, a gateway, or `mumbai-mesh`.
    pub fn name(&self) -> &str {
        match self {
            Self::Member(_, name) => name.as_str(),
            Self::Server(_) => SERVER_DNS,
        }
    }
}
