//! Which servers that share a store keep leases, and which do not any more.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::Registry;
use crate::store::{Store, StoreError};

/// A server that says nothing for so long keeps no leases any more.
const KEEPER_SPAN: Duration = Duration::from_secs(10);
/// How often it says so.
const KEEP_EVERY: Duration = Duration::from_secs(3);

impl Registry {
    /// Says again and again that this server keeps leases, and looks which others do not any more.
    pub(super) async fn keep(self: Arc<Self>) {
        if !self.store.is_shared() {
            return std::future::pending().await;
        }
        let mut again = interval(KEEP_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            let registry = Arc::clone(&self);
            match spawn_blocking(move || registry.keep_once()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "the keepers of leases cannot be looked at"),
                Err(_) => return,
            }
        }
    }

    fn keep_once(&self) -> Result<(), StoreError> {
        let me = Arc::clone(self.inner().state.me());
        if !self.store.hold(&lease_of(&me), &me, KEEPER_SPAN)? {
            // While we were away another one took our instances.
            let renamed = new_name(&*self.store)?;
            self.inner().state.rename(&renamed);
            return Ok(());
        }
        let keepers = self.inner().state.keepers();
        let mut gone = BTreeSet::new();
        for keeper in keepers {
            if self.store.hold(&lease_of(&keeper), &me, KEEPER_SPAN)? {
                info!(%keeper, "a server is gone: its leases are kept here");
                gone.insert(keeper);
            }
        }
        self.inner().state.set_gone(gone);
        self.due.notify_one();
        Ok(())
    }
}

fn lease_of(keeper: &str) -> String {
    format!("instances/{keeper}")
}

/// A name that this server alone has.
pub(super) fn new_name(store: &dyn Store) -> Result<String, StoreError> {
    let name = format!("{:016x}", fastrand::u64(..));
    if !store.hold(&lease_of(&name), &name, KEEPER_SPAN)? {
        error!(name, "a random name is another server's");
    }
    Ok(name)
}
