//! Limits: requests per second, exact across all workers of one Envoy.
//!
//! A token bucket kept as one number, the theoretical arrival time of the generic cell rate algorithm
//! (ITU-T I.371): the moment at which the bucket will be full again. So a worker reads and writes
//! eight bytes, and a rate that changes at a peak's edge needs no bookkeeping.

use std::time::Duration;

use crate::{time::MonoTime, timetable::Traffic};

/// Largest rate and burst.
pub const PER_SECOND_MAX: u32 = 1_000_000;
/// Told to those whom a rate of 0 refuses.
const NEVER_RETRY_AFTER: Duration = Duration::from_secs(60);
const SECOND_NANOS: u64 = 1_000_000_000;

/// Requests per second by the time of the timetable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// At any time that no other field speaks of.
    pub per_second: u32,
    /// In any active window, on a festival too.
    pub at_peak: Option<u32>,
    /// On a festival; outranks `at_peak`.
    pub at_festival: Option<u32>,
    /// Requests that may come at once after a pause. A tenth of a second's worth unless given.
    pub burst: Option<u32>,
    /// Decide and count, refuse nothing.
    pub observe: bool,
}

/// A limit at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second; 0 refuses all.
    pub per_second: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

impl Limit {
    /// What holds now.
    pub fn rate(&self, traffic: &Traffic) -> Rate {
        let peak = self.at_peak.filter(|_| traffic.window.is_some());
        let festival = self.at_festival.filter(|_| traffic.festival.is_some());
        let per_second = festival.or(peak).unwrap_or(self.per_second);
        Rate {
            per_second,
            burst: self.burst.unwrap_or(per_second / 10).max(1),
        }
    }
}

/// A bucket of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenBucket {
    /// When it will be full again.
    full_at: u64,
}

impl TokenBucket {
    /// Reads what [`encode`](Self::encode) wrote; anything else is a full bucket.
    pub fn decode(bytes: &[u8]) -> Self {
        let full_at = bytes.try_into().map(u64::from_le_bytes);
        Self {
            full_at: full_at.unwrap_or_default(),
        }
    }

    /// As bytes for memory that workers share.
    pub fn encode(self) -> [u8; 8] {
        self.full_at.to_le_bytes()
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When there is none: how long until there is. The bucket is unchanged then.
    pub fn take(&mut self, rate: Rate, now: MonoTime) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Err(NEVER_RETRY_AFTER);
        }
        let interval = SECOND_NANOS / u64::from(rate.per_second);
        let full_at = self.full_at.max(now.nanos());
        let depth = interval.saturating_mul(u64::from(rate.burst));
        let next = full_at.saturating_add(interval);
        let early = next.saturating_sub(now.nanos().saturating_add(depth));
        if early > 0 {
            return Err(Duration::from_nanos(early));
        }
        self.full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second, burst }
    }

    fn at(micros: u64) -> MonoTime {
        MonoTime::from_nanos(micros * 1000)
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_by_one() {
        let mut bucket = TokenBucket::default();
        let ten = rate(10, 3);
        let now = at(5_000_000);
        for _ in 0..3 {
            assert_eq!(bucket.take(ten, now), Ok(()));
        }
        assert_eq!(bucket.take(ten, now), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(ten, at(5_100_000)), Ok(()));
        assert!(bucket.take(ten, at(5_100_000)).is_err());
    }

    #[test]
    fn nothing_passes_a_limit_of_zero() {
        assert!(TokenBucket::default().take(rate(0, 5), at(1)).is_err());
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst_and_never_much_less(
            per_second in 1_u32..5_000,
            burst in 1_u32..100,
            gaps in prop::collection::vec(0_u64..2_000, 200..2_000),
        ) {
            let mut bucket = TokenBucket::default();
            let rate = rate(per_second, burst);
            let start = 1_000_000;
            let (mut now, mut passed, mut asked) = (start, 0_u64, 0_u64);
            for gap in gaps {
                now += gap;
                asked += 1;
                bucket = TokenBucket::decode(&bucket.encode());
                passed += u64::from(bucket.take(rate, at(now)).is_ok());
            }
            let allowed = (now - start) * u64::from(per_second) / 1_000_000 + u64::from(burst);
            prop_assert!(passed <= allowed + 1, "{passed} of at most {allowed}");
            // A bucket that was never full gave every token that it had.
            prop_assert!(passed >= asked.min(u64::from(burst)));
        }
    }
}
