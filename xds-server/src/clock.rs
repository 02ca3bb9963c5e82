//! The server's only reading of wall time, by libc's `clock_gettime` underneath, so that a preloaded
//! library can move it in tests and demonstrations.

use std::time::{SystemTime, UNIX_EPOCH};

use policy::time::WallTime;

/// Now. A clock set before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallTime::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
