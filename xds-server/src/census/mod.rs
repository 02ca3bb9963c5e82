//! How many proxies each gateway and service has, over all servers: what limits with `scope: fleet` are divided by.
//! A proxy counts while it is connected and for some minutes afterwards, so that a restart, of it or of a server, is no
//! change. Each server keeps in the store whom it saw; whoever reads that counts each proxy once, wherever it was seen.

pub mod owner;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use policy::units::ServiceName;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use self::state::State;

/// How proxies are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// One that was not seen for so long counts no more.
    pub seen_within: Duration,
    /// Numbers are told at most so often.
    pub told_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            seen_within: Duration::from_secs(10 * 60),
            told_every: Duration::from_secs(30),
        }
    }
}

/// A proxy: of its `node.id` no more is needed than whether it is the same.
pub type ProxyId = u64;

/// The proxy of a `node.id`.
pub fn proxy(id: &str) -> ProxyId {
    xxh3_64(id.as_bytes())
}

/// Whom a server saw, by gateway or service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting(pub BTreeMap<ServiceName, BTreeSet<ProxyId>>);

/// A [`Sighting`] in the store.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Counts up, so that one that says the same again is another: who wrote it is there still.
    number: u64,
    seen: BTreeMap<String, Vec<String>>,
}

impl Sighting {
    fn kept(&self, number: u64) -> Arc<str> {
        let hex = |proxies: &BTreeSet<ProxyId>| {
            let proxies = proxies.iter();
            proxies.map(|proxy| format!("{proxy:016x}")).collect()
        };
        let seen = self.0.iter();
        let kept = Kept {
            number,
            seen: seen
                .map(|(member, proxies)| (member.to_string(), hex(proxies)))
                .collect(),
        };
        // Texts and numbers alone: it cannot fail.
        serde_json::to_string(&kept).unwrap_or_default().into()
    }

    /// What another version wrote and this one cannot read saw nobody.
    fn read(text: &str) -> Self {
        let Ok(kept) = serde_json::from_str::<Kept>(text) else {
            return Self::default();
        };
        let seen = kept.seen.into_iter().filter_map(|(member, proxies)| {
            let proxies = proxies.iter();
            let proxies = proxies.filter_map(|proxy| ProxyId::from_str_radix(proxy, 16).ok());
            Some((ServiceName::new(&member).ok()?, proxies.collect()))
        });
        Self(seen.collect())
    }
}
