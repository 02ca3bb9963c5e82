//! The store: what every one promises, what an etcd must survive, and servers over it.

mod backup;
mod contract;
mod damaged;
mod etcd;
mod full_disk;
mod history;
mod killed;
mod kills;
mod lost;
mod model;
mod moved;
mod replica;
mod replicas;

use std::sync::Arc;

use anyhow::{Result, bail};
use mumbai_mesh_server::store::{About, Change, Draft, Log, Since, Store, StoreError};
use policy::time::WallTime;

/// What a key becomes.
pub type Written<'w> = (&'w str, Option<&'w str>);

pub fn draft(changes: &[Written<'_>]) -> Draft {
    let change = |(key, value): &Written<'_>| Change {
        key: (*key).into(),
        value: value.map(Into::into),
    };
    Draft {
        about: About::of_api(WallTime::from_unix_millis(1_700_000_000_000)),
        changes: changes.iter().map(change).collect(),
    }
}

/// Appends after whatever is the newest, as whoever writes does: when another came first, once more.
pub fn append(store: &dyn Store, log: Log, changes: &[Written<'_>]) -> Result<u64> {
    loop {
        let after = store.feed(log).revision();
        match store.append(log, after, draft(changes)) {
            Ok(revision) => return Ok(revision),
            Err(StoreError::Moved { .. }) => {}
            Err(error) => bail!("after {after}: {error}"),
        }
    }
}

/// The numbers of what came after; none when everything has to be read anew.
pub fn since(store: &dyn Store, log: Log, after: u64) -> Option<Vec<u64>> {
    match store.feed(log).since(after) {
        Since::Entries(entries) => Some(entries.iter().map(|entry| entry.revision).collect()),
        Since::Unknown => None,
    }
}

/// Something that is opened again and again.
pub type Open<'o> = dyn Fn() -> Result<Arc<dyn Store>> + Sync + 'o;
