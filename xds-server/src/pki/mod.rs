//! Keys and certificates: a root, an issuing certificate below it, and one leaf for each service.
//!
//! `tier`, `leaf`, `check`, `peer` and `renewal` are pure: time comes in. `files` is the CA's folder, whose
//! keys `sealed` may keep under a passphrase, `shared` what several servers have of it in their store;
//! `authority` owns all keys and certificates and decides when leaves are renewed.

pub mod authority;
mod check;
mod files;
mod identity;
mod leaf;
mod open;
mod peer;
mod renewal;
mod sealed;
mod shared;
mod tier;

#[cfg(test)]
mod tests;

pub use check::Flaw;
pub use files::{CaError, Folder, PassphraseError};
pub use identity::Identity;
pub use leaf::{Credentials, IssueError, Purpose};
pub use open::{NoAuthority, OpenAuthority};
pub use peer::{Denied, Peer};
pub use sealed::Passphrase;
pub use shared::{ShareError, share};
pub use tier::Ca;

use policy::time::WallTime;
use std::{sync::Arc, time::Duration};

/// The one provider of cryptography.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Longest life of a certificate that may be asked for.
pub const DAYS_MAX: u32 = 36_500;
/// Of a root, unless somebody says otherwise.
pub const CA_DAYS: u32 = 3650;
/// Of a leaf, unless somebody says otherwise.
pub const SERVICE_DAYS: u32 = 90;

/// So many days.
pub fn days(days: u32) -> Duration {
    const SECONDS: u64 = 24 * 60 * 60;
    Duration::from_secs(u64::from(days) * SECONDS)
}

fn seconds(at: WallTime) -> i64 {
    at.unix_millis().div_euclid(1000)
}

/// Earlier by `duration`.
fn before(at: WallTime, duration: Duration) -> WallTime {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    WallTime::from_unix_millis(at.unix_millis().saturating_sub(millis))
}

/// From one instant to a later one; nothing when it is not later.
fn between(from: WallTime, to: WallTime) -> Duration {
    let millis = to.unix_millis().saturating_sub(from.unix_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// What is wrong with a `node.id` as the name in a certificate, if anything is.
pub fn node_id_problem(node_id: &str) -> Option<String> {
    /// RFC 5280, `ub-common-name`.
    const CHARACTERS_MAX: usize = 64;
    let length = node_id.chars().count();
    if (1..=CHARACTERS_MAX).contains(&length) && !node_id.chars().any(char::is_control) {
        return None;
    }
    Some(format!(
        "node id {node_id:?}: must be 1 to {CHARACTERS_MAX} characters, none of them a control character"
    ))
}
