//! Which service a request is for.

use std::hash::Hasher;

use hashbrown::HashTable;
use rustc_hash::FxHasher;

use super::rules::ServiceId;
use crate::{bytes::same, wire::ServiceConfig};

/// Services by what a request shows of them.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceIndex {
    by_name: Index,
    by_cluster: Index,
    by_authority: Index,
}

/// Numbers of services. The names are the configuration's, so nobody else chooses which of them collide.
#[derive(Debug, Clone, Default)]
struct Index(HashTable<(Box<[u8]>, u16)>);

/// Of words, each of which costs a multiplication or two: as bytes it would multiply numbers of 64 bits into such of
/// 128, which wasm does in sixty instructions.
#[inline]
fn hash(name: &[u8]) -> u64 {
    let mut hash = FxHasher::default();
    let (words, rest) = name.as_chunks();
    for word in words {
        hash.write_u64(u64::from_le_bytes(*word));
    }
    match name.last_chunk() {
        // Some of it once more, where the length is no multiple.
        Some(last) if !rest.is_empty() => hash.write_u64(u64::from_le_bytes(*last)),
        Some(_) => {}
        None => rest.iter().for_each(|byte| hash.write_u8(*byte)),
    }
    hash.finish()
}

impl Index {
    #[inline]
    fn get(&self, name: &[u8]) -> Option<u16> {
        let known = self.0.find(hash(name), |(known, _)| same(known, name))?;
        Some(known.1)
    }

    /// The first to name something keeps it.
    #[cold]
    fn insert(&mut self, name: &str, number: u16) {
        let name = name.as_bytes();
        let is = |(known, _): &(Box<[u8]>, u16)| same(known, name);
        let entry = self.0.entry(hash(name), is, |(known, _)| hash(known));
        entry.or_insert_with(|| (name.into(), number));
    }
}

impl ServiceIndex {
    /// Of services in the order of their numbers.
    pub(super) fn new(services: &[ServiceConfig]) -> Self {
        let mut index = Self::default();
        // Clusters and authorities that are named outrank those that follow from other names.
        for (number, service) in (0..=u16::MAX).zip(services) {
            for cluster in &service.clusters {
                index.by_cluster.insert(cluster, number);
            }
            for authority in &service.authorities {
                let authority = authority.to_ascii_lowercase();
                index.by_authority.insert(&authority, number);
            }
        }
        for (number, service) in (0..=u16::MAX).zip(services) {
            let name = service.name.as_str();
            index.by_name.insert(name, number);
            index.by_cluster.insert(name, number);
            index
                .by_authority
                .insert(&name.to_ascii_lowercase(), number);
            if let Some(canary) = &service.canary {
                let cluster = format!("{name}|{}", canary.version);
                index.by_cluster.insert(&cluster, number);
            }
        }
        index
    }

    pub(super) fn resolve(
        &self,
        metadata: Option<&[u8]>,
        cluster: Option<&[u8]>,
        authority: Option<&[u8]>,
    ) -> ServiceId {
        let known = |index: &Index, name: Option<&[u8]>| index.get(name?);
        known(&self.by_name, metadata)
            .or_else(|| known(&self.by_cluster, cluster))
            .or_else(|| self.by_istio_cluster(cluster?))
            // As most clients write it: in lower case, without a port.
            .or_else(|| known(&self.by_authority, authority))
            .or_else(|| self.by_host(without_port(authority?)))
            .map_or(ServiceId::Other, ServiceId::Known)
    }

    /// Istio names clusters `outbound|PORT|SUBSET|HOST`, without a subset `outbound|PORT||HOST`. Which port a
    /// host is called on makes no other service of it, unless that cluster is named.
    #[inline(never)]
    fn by_istio_cluster(&self, cluster: &[u8]) -> Option<u16> {
        let mut parts = cluster.splitn(4, |byte| *byte == b'|');
        let (direction, port) = (parts.next()?, parts.next()?);
        let (subset, host) = (parts.next()?, parts.next()?);
        if direction != b"outbound" {
            return None;
        }
        if !subset.is_empty() {
            let whole = [direction, port, b"", host].join(&b'|');
            if let Some(known) = self.by_cluster.get(&whole) {
                return Some(known);
            }
        }
        self.by_host(host)
    }

    #[inline(never)]
    fn by_host(&self, host: &[u8]) -> Option<u16> {
        // No host name is longer; so nothing long is copied.
        const HOST_MAX: usize = 255;
        if host.len() > HOST_MAX {
            return None;
        }
        if host.iter().any(u8::is_ascii_uppercase) {
            return self.by_authority.get(&host.to_ascii_lowercase());
        }
        self.by_authority.get(host)
    }
}

/// `host:8080` -> `host`, `[::1]:8080` -> `[::1]`.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) => match authority.split_at_checked(colon) {
            Some((host, port)) if port.iter().skip(1).all(u8::is_ascii_digit) => host,
            _ => authority,
        },
        None => authority,
    }
}
