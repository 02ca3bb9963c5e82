//! Whether breakers in shared memory were written, known for a small part of what reading them costs.

use policy::names;

use crate::host::{self, Metric, Swap};

/// Of one service: a gauge of Envoy, which all workers, VMs and configurations of an Envoy share as
/// they share the breakers. The lower bits count writes that have begun, the others those that have
/// ended; a gauge, since an administrator may reset counters.
///
/// A worker that finds the same version before two uses of what it read, with no write under way at
/// either, would have read the same again. For each write begins before it changes the memory and ends
/// after; so one that changed it in between either ended, and made the version greater, or is still
/// under way, and shows. Envoy's gauges are sequentially consistent atomics, and its shared data is
/// behind a lock. A VM that dies in the middle of a write leaves it under way for ever: the memory is
/// read at each use from then on, which is slow and right.
#[derive(Debug, Clone, Copy)]
pub struct MemoryVersion(Option<u32>);

/// A write has ended. More are not under way at once than an Envoy has workers.
const ENDED: i64 = 1 << 20;

impl MemoryVersion {
    /// The version of a service's breakers. Where Envoy's bootstrap keeps such statistics out, the gauge
    /// stands still and is no witness: then there is none.
    pub fn of(service: &str) -> Self {
        let labels = [(names::LABEL_SERVICE, service)];
        let name = names::metric_name(&labels, names::METRIC_BREAKER_MEMORY_VERSION);
        let gauge = host::define(Metric::Gauge, &name);
        let moves = |gauge: &u32| {
            let before = host::metric(*gauge);
            host::add(*gauge, ENDED);
            before.is_some() && host::metric(*gauge) != before
        };
        Self(gauge.filter(moves))
    }

    /// The version now; none while somebody writes, and where there is no witness.
    pub fn settled(self) -> Option<u64> {
        let version = host::metric(self.0?)?;
        version
            .is_multiple_of(ENDED.unsigned_abs())
            .then_some(version)
    }

    /// Writes what `cas` was the ticket of.
    pub fn write(self, key: &str, value: &[u8], cas: u32) -> Swap {
        self.add(1);
        let swap = host::shared_swap(key, value, cas);
        self.add(ENDED - 1);
        swap
    }

    fn add(self, offset: i64) {
        if let Some(gauge) = self.0 {
            host::add(gauge, offset);
        }
    }
}
