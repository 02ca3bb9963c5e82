//! The mesh's trust domain, and the names that SPIFFE gives to what lives in it.

use std::fmt;

use policy::units::ServiceName;

/// A trust domain: names in it are vouched for by one certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Box<str>);

/// Namespace of services and gateways.
const MEMBERS: &str = "default";
/// Namespace of what is no service: no mesh file can name anything there.
const SYSTEM: &str = "mumbai-mesh";

impl TrustDomain {
    /// From a name such as `mumbai.mesh`.
    ///
    /// # Errors
    /// What is no DNS name in lower case.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        const LENGTH_MAX: usize = 200;
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if text.len() <= LENGTH_MAX && text.split('.').all(label) {
            Ok(Self(text.into()))
        } else {
            Err("must be a DNS name in lower case of at most 200 characters, such as mumbai.mesh")
        }
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of a service or gateway.
    pub fn member(&self, name: &ServiceName) -> String {
        format!("{}{name}", self.members())
    }

    /// What the SPIFFE IDs of all services and gateways begin with.
    pub fn members(&self) -> String {
        format!("spiffe://{self}/ns/{MEMBERS}/sa/")
    }

    /// The SPIFFE ID of the server.
    pub fn server(&self) -> String {
        format!("spiffe://{self}/ns/{SYSTEM}/sa/server")
    }

    /// The DNS name by which callers of a service ask for its certificate.
    pub fn dns(&self, name: &ServiceName) -> String {
        format!("{name}.{self}")
    }
}

impl Default for TrustDomain {
    /// Where the mesh file names none.
    fn default() -> Self {
        Self("mumbai.mesh".into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_is_a_dns_name_and_names_its_members() {
        let domain = TrustDomain::new("mumbai.mesh").unwrap();
        let orders = ServiceName::new("order-service").unwrap();
        assert_eq!(
            domain.member(&orders),
            "spiffe://mumbai.mesh/ns/default/sa/order-service"
        );
        assert_eq!(domain.dns(&orders), "order-service.mumbai.mesh");
        assert!(!domain.server().starts_with(&domain.members()));
        for wrong in ["", "Mumbai", "a..b", "a/b", "-a", "a-", "a b", "मुंबई", "a:1"] {
            assert!(TrustDomain::new(wrong).is_err(), "{wrong}");
        }
        assert!(TrustDomain::new(&"a".repeat(64)).is_err());
    }
}
