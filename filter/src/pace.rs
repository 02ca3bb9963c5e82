//! How often a VM ticks: seldom while it has nothing to do.
//!
//! An Envoy has a VM for each worker and one for its main thread, which never sees a request. A tick costs
//! each of them about as much as two requests, so a fleet that sleeps would pay for clocks that nobody reads.

use std::cell::Cell;

use crate::host;

/// Successes wait at most this long until the other workers know of them, and counts until Envoy does.
const TICK_MILLISECONDS: u32 = 50;
/// The same for gauges of the traffic in a VM that rests.
const REST_MILLISECONDS: u32 = 1_000;
/// Ticks without a request until it rests: after the first of them nothing waits any more.
const TICKS_UNTIL_REST: u32 = 20;

/// The pace of one VM.
#[derive(Debug, Default)]
pub struct Pace {
    /// Ticks since a request began or ended.
    quiet: Cell<u32>,
}

impl Pace {
    /// Lets ticks come.
    #[cold]
    pub fn begin(&self) {
        self.quiet.set(0);
        host::tick_every(TICK_MILLISECONDS);
    }

    /// A request begins or ends. Whether the VM rested until now.
    #[inline]
    pub fn stir(&self) -> bool {
        let rested = self.quiet.replace(0) >= TICKS_UNTIL_REST;
        if rested {
            self.begin();
        }
        rested
    }

    /// A tick came.
    pub fn tick(&self) {
        let quiet = self.quiet.get();
        if quiet < TICKS_UNTIL_REST {
            self.quiet.set(quiet + 1);
            if quiet + 1 == TICKS_UNTIL_REST {
                host::tick_every(REST_MILLISECONDS);
            }
        }
    }
}
