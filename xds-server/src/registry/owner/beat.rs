//! Heartbeats.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::Registry;
use crate::{registry::Beat, store::Log};

/// Heartbeats of strangers for which the store is looked into at once.
pub(super) const LOOKS_MAX: usize = 16;

impl Registry {
    /// A heartbeat: a look into memory, and nothing more.
    pub fn beat(&self, service: &str, id: &str) -> Beat {
        self.heartbeats.inc();
        self.heard(service, id)
    }

    /// The same of somebody whom this server does not know: another one of those that share the store may have taken
    /// the registration a moment ago. Looks into the store, unless that is looked into enough already.
    pub async fn beat_of_stranger(self: &Arc<Self>, service: &str, id: &str) -> Beat {
        if !self.store.is_shared() || self.store.problem().is_some() {
            return Beat::Unknown;
        }
        let Ok(_place) = self.looks.try_acquire() else {
            return Beat::Unknown;
        };
        let registry = Arc::clone(self);
        let looking = spawn_blocking(move || {
            registry.store.catch_up(Log::Instances)?;
            registry.take()
        });
        match looking.await {
            Ok(Ok(())) => self.heard(service, id),
            _ => Beat::Unknown,
        }
    }

    fn heard(&self, service: &str, id: &str) -> Beat {
        let beat = self.inner().state.beat(service, id, self.now());
        if beat == Beat::Returns {
            self.due.notify_one();
        }
        beat
    }
}
