//! Limits: requests per second, exact across all workers of one Envoy.
//!
//! A token bucket kept as one number, the theoretical arrival time of the generic cell rate algorithm
//! (ITU-T I.371): the moment at which the bucket will be full again. So a worker reads and writes
//! a few bytes. They hold the rate, too: when it changes, at a peak's edge or by a configuration, tokens
//! that were taken stay taken, and come back at the rate in force.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Requests per second; 0 refuses all.
    pub per_second: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

impl Limit {
    /// What holds now.
    pub fn rate(&self, traffic: &Traffic) -> Rate {
        let peak = self.at_peak.filter(|_| traffic.is_peak);
        let festival = self.at_festival.filter(|_| traffic.festival.is_some());
        let per_second = festival.or(peak).unwrap_or(self.per_second);
        Rate {
            per_second,
            burst: self.burst.unwrap_or(per_second / 10).max(1),
        }
    }
}

impl Rate {
    /// Nanoseconds from one token to the next; the rate is not 0.
    fn interval(self) -> u64 {
        SECOND_NANOS / u64::from(self.per_second.max(1))
    }
}

/// A bucket of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenBucket {
    /// When it will be full again.
    full_at: u64,
    /// At this rate.
    rate: Rate,
}

impl TokenBucket {
    /// Reads what [`encode`](Self::encode) wrote; anything else is a full bucket.
    pub fn decode(bytes: &[u8]) -> Self {
        let Ok(bytes) = <[u8; 16]>::try_from(bytes) else {
            return Self::default();
        };
        let [full_at, rate] = [0, 8].map(|at| {
            let number = bytes.get(at..at + 8).and_then(|one| one.try_into().ok());
            number.map_or(0, u64::from_le_bytes)
        });
        let half = |number: u64| u32::try_from(number).unwrap_or(0);
        Self {
            full_at,
            rate: Rate {
                per_second: half(rate & u64::from(u32::MAX)),
                burst: half(rate >> 32),
            },
        }
    }

    /// As bytes for memory that workers share.
    pub fn encode(self) -> [u8; 16] {
        let rate = u64::from(self.rate.burst) << 32 | u64::from(self.rate.per_second);
        let mut bytes = [0; 16];
        for (place, number) in bytes
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip([self.full_at, rate])
        {
            *place = number.to_le_bytes();
        }
        bytes
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When there is none: how long until there is. The bucket is unchanged then.
    pub fn take(&mut self, rate: Rate, now: MonoTime) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Err(NEVER_RETRY_AFTER);
        }
        let next = self.full_at(rate, now).saturating_add(rate.interval());
        let depth = rate.interval().saturating_mul(u64::from(rate.burst));
        let early = next.saturating_sub(now.nanos().saturating_add(depth));
        if early > 0 {
            return Err(Duration::from_nanos(early));
        }
        *self = Self {
            full_at: next,
            rate,
        };
        Ok(())
    }

    /// Gives back a token that was taken at this rate and was not used.
    pub fn give_back(&mut self, rate: Rate) {
        if rate == self.rate && rate.per_second > 0 {
            self.full_at = self.full_at.saturating_sub(rate.interval());
        }
    }

    /// When it is full again at a rate. After a change it lacks as many tokens as before, and less than
    /// its burst: so the first request is let through, and writes the new rate.
    fn full_at(&self, rate: Rate, now: MonoTime) -> u64 {
        let now = now.nanos();
        if rate == self.rate {
            return self.full_at.max(now);
        }
        let lacking = self.full_at.saturating_sub(now) / self.rate.interval();
        let lacking = lacking.min(u64::from(rate.burst.saturating_sub(1)));
        now.saturating_add(lacking.saturating_mul(rate.interval()))
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

    #[test]
    fn a_debt_made_at_a_lower_rate_comes_back_at_the_one_in_force() {
        let mut bucket = TokenBucket::default();
        while bucket.take(rate(1, 60), at(5_000_000)).is_ok() {}
        let thousand = rate(1_000, 60);
        for millis in 5_000..5_100 {
            let mut bucket_then = TokenBucket::decode(&bucket.encode());
            assert_eq!(bucket_then.take(thousand, at(millis * 1_000)), Ok(()));
            let next = bucket_then.take(thousand, at(millis * 1_000));
            assert_eq!(next, Err(Duration::from_millis(1)));
            bucket = bucket_then;
        }
    }

    #[test]
    fn a_bucket_that_was_emptied_is_not_filled_by_a_stricter_rate() {
        let mut bucket = TokenBucket::default();
        while bucket.take(rate(1_000, 60), at(5_000_000)).is_ok() {}
        let strict = rate(5, 60);
        assert_eq!(bucket.take(strict, at(5_000_000)), Ok(()));
        assert_eq!(
            bucket.take(strict, at(5_000_000)),
            Err(Duration::from_millis(200))
        );
    }

    #[test]
    fn a_token_that_is_given_back_may_be_taken_again() {
        let mut bucket = TokenBucket::default();
        let one = rate(1, 1);
        assert_eq!(bucket.take(one, at(1)), Ok(()));
        assert!(bucket.take(one, at(1)).is_err());
        bucket.give_back(one);
        assert_eq!(bucket.take(one, at(1)), Ok(()));
        assert!(bucket.take(one, at(1)).is_err());
    }

    proptest! {
        /// Whatever held before, a rate gives what it promises from its first moment on.
        #[test]
        fn a_rate_that_changes_gives_what_it_says_at_once(
            stretches in prop::collection::vec((1_u32..5_000, 1_u32..200, 1_u64..400_000), 2..20),
        ) {
            let mut bucket = TokenBucket::default();
            let mut now = 1_000_000;
            for (per_second, burst, length) in stretches {
                let rate = rate(per_second, burst);
                let (start, mut passed) = (now, 0_u64);
                while now < start + length {
                    bucket = TokenBucket::decode(&bucket.encode());
                    match bucket.take(rate, at(now)) {
                        Ok(()) => passed += 1,
                        Err(wait) => {
                            prop_assert!(wait.as_nanos() <= u128::from(rate.interval()));
                            now += 50;
                        }
                    }
                }
                let by_rate = (now - start) * u64::from(per_second) / 1_000_000;
                prop_assert!(passed <= by_rate + u64::from(burst) + 1, "{passed} in {length}");
                // Asked every 50 microseconds, it loses so much of each interval at most.
                let interval = 1_000_000 / u64::from(per_second) + 50;
                prop_assert!(passed >= (now - start) / interval, "{passed} in {length}");
            }
        }

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
