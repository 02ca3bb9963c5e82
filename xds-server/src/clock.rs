//! The server's only reading of wall time, by libc's `clock_gettime` underneath, so that a preloaded
//! library can move it in tests and demonstrations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use policy::time::{MonoTime, Now, WallTime};

/// Now. A clock set before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallTime::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic clock of who began so long ago.
pub fn mono(elapsed: Duration) -> MonoTime {
    MonoTime::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

/// Now on both clocks, of who began so long ago.
pub fn both(elapsed: Duration) -> Now {
    Now {
        wall: now(),
        mono: mono(elapsed),
    }
}
