//! Connections end with their certificates.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use policy::time::WallTime;
use tracing::warn;

use super::connection;
use crate::{
    clock,
    metrics::{self, Metrics},
    pki::Peer,
};

/// By the wall clock, which may be moved: so it is looked at often, never slept towards.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type Ends = BTreeMap<(WallTime, u64), (Arc<Peer>, Arc<connection::Cut>)>;

/// The ends of all certificates with which connections are open.
#[derive(Default)]
pub(super) struct Expiries {
    ends: Mutex<Ends>,
    numbers: AtomicU64,
}

/// A connection's own end.
pub(super) struct Expiry {
    key: (WallTime, u64),
    expiries: Arc<Expiries>,
}

impl Expiries {
    /// Cuts the member's connection at the end of its certificate, unless it is closed before.
    pub(super) fn add(self: &Arc<Self>, member: &Arc<Peer>, cut: &Arc<connection::Cut>) -> Expiry {
        let key = (
            member.not_after,
            self.numbers.fetch_add(1, Ordering::Relaxed),
        );
        self.lock()
            .insert(key, (Arc::clone(member), Arc::clone(cut)));
        Expiry {
            key,
            expiries: Arc::clone(self),
        }
    }

    /// Cuts what has ended, for ever.
    pub(super) async fn watch(&self, metrics: &Metrics) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for (member, cut) in self.ended(clock::now()) {
                metrics.cut(metrics::Cut::Expired);
                warn!(
                    target: "audit",
                    node = member.node_id,
                    cluster = member.name.as_str(),
                    reason = metrics::Cut::Expired.name(),
                    "a connection is closed: its certificate has ended"
                );
                cut.cut();
            }
        }
    }

    fn ended(&self, now: WallTime) -> Vec<(Arc<Peer>, Arc<connection::Cut>)> {
        let mut ends = self.lock();
        let later = ends.split_off(&(WallTime::from_unix_millis(now.unix_millis() + 1), 0));
        std::mem::replace(&mut *ends, later).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.expiries.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use policy::units::ServiceName;

    use super::*;
    use crate::mesh::TrustDomain;

    #[test]
    fn what_ends_now_is_cut_once_and_what_was_closed_is_not() {
        let at = WallTime::from_unix_millis;
        let expiries = Arc::new(Expiries::default());
        let cut = Arc::default();
        let add = |end: i64| {
            let member = Peer {
                trust_domain: TrustDomain::new("mumbai.mesh").unwrap(),
                name: ServiceName::new("orders").unwrap(),
                node_id: "orders-1".into(),
                not_after: at(end),
            };
            expiries.add(&Arc::new(member), &cut)
        };
        let _kept = [5, 5, 7].map(add);
        drop(add(6));
        let ended = |now: i64| expiries.ended(at(now)).len();
        assert_eq!((ended(4), ended(5), ended(6), ended(7)), (0, 2, 0, 1));
    }
}
