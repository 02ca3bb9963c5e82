//! Wall time without asking for it at each request.

use std::cell::Cell;

use policy::time::{MonoTime, Now, WallTime};

use crate::host;

/// Both clocks of Envoy's host at one moment. Wall time runs on from there with the monotonic clock;
/// a step of the wall clock counts from the next look on, which every tick takes.
pub struct Clock {
    /// Wall time in nanoseconds since 1970: rounded once, when it is asked for, it reaches each second
    /// as soon as the host's own clock does.
    seen: Cell<(u64, MonoTime)>,
}

impl Clock {
    /// Looks at both clocks for the first time.
    pub fn new() -> Self {
        Self {
            seen: Cell::new((host::wall_nanos(), host::monotonic())),
        }
    }

    /// Looks at both clocks.
    pub fn look(&self) -> Now {
        let mono = host::monotonic();
        self.seen.set((host::wall_nanos(), mono));
        self.at(mono)
    }

    /// Looks at the monotonic clock.
    pub fn now(&self) -> Now {
        self.at(host::monotonic())
    }

    fn at(&self, mono: MonoTime) -> Now {
        let (wall, since) = self.seen.get();
        let passed = mono.nanos().saturating_sub(since.nanos());
        let millis = wall.saturating_add(passed) / 1_000_000;
        Now {
            wall: WallTime::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
            mono,
        }
    }
}
