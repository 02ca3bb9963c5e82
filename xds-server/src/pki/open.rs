//! An authority as text with open keys: for whoever seals all of it.

use policy::time::WallTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Ca, check, check::Which, tier::Tier};

/// Certificate and key of each tier, as PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAuthority {
    /// As in `root.pem`.
    pub root: Zeroizing<String>,
    /// As in `issuing.pem`.
    pub issuing: Zeroizing<String>,
}

/// It is no authority that can be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authority in it is damaged")]
pub struct NoAuthority;

impl OpenAuthority {
    /// Of an authority.
    ///
    /// # Errors
    /// A key that has no such form.
    pub fn of(ca: &Ca) -> Result<Self, NoAuthority> {
        // Under no passphrase of a folder: all of it is sealed.
        let open = |tier: &Tier| tier.to_pem(None).map_err(|_| NoAuthority);
        Ok(Self {
            root: open(&ca.root)?,
            issuing: open(&ca.issuing)?,
        })
    }

    /// The authority.
    ///
    /// # Errors
    /// What is none.
    pub fn read(&self, now: WallTime) -> Result<Ca, NoAuthority> {
        let tier = |text: &str| Tier::from_pem(text, None).map_err(|_| NoAuthority);
        let ca = Ca {
            root: tier(&self.root)?,
            issuing: tier(&self.issuing)?,
        };
        // An issuing certificate that has ended is renewed by whoever uses it.
        match check::ca(&ca, now) {
            Ok(()) | Err((Which::Issuing, _)) => Ok(ca),
            Err(_) => Err(NoAuthority),
        }
    }
}
