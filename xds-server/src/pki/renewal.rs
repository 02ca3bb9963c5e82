//! When a leaf is renewed. By the wall clock alone, since that is what its end is compared with.

use std::time::Duration;

use policy::time::WallTime;
use xxhash_rust::xxh64::xxh64;

use super::{Credentials, between};

/// First and longest pause after a renewal that failed.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(150));

/// After two thirds of its life, up to a tenth of it earlier or later: leaves that were issued in one
/// second are not renewed in one second, and a restart does not draw anew.
pub(super) fn renews_at(leaf: &Credentials) -> WallTime {
    const STEPS: u64 = 1000;
    let life = between(leaf.issued_at, leaf.not_after).as_millis();
    let named = format!("{} {}", leaf.identity.spiffe_id(), leaf.serial);
    let step = u128::from(xxh64(named.as_bytes(), 0) % (STEPS + 1));
    // From 17/30 of its life to 23/30.
    let millis = life * 17 / 30 + life * step / u128::from(STEPS) / 5;
    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
    leaf.issued_at.saturating_add(Duration::from_millis(millis))
}

/// Whether it is time, or the clock went back to before its beginning.
pub(super) fn is_due(leaf: &Credentials, now: WallTime) -> bool {
    now >= renews_at(leaf) || now < leaf.not_before
}

/// How long to wait after so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    let (first, longest) = AGAIN;
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    first.saturating_mul(doubled).min(longest)
}

/// How often it is asked whether a leaf is due: at least every 10 s, more often where leaves are short.
pub(super) fn tick(life: Duration) -> Duration {
    (life / 60).clamp(Duration::from_millis(50), Duration::from_secs(10))
}
