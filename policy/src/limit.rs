//! Limits: requests per second, exact across all workers of one Envoy.
//!
//! A token bucket kept as one number, the theoretical arrival time of the generic cell rate algorithm
//! (ITU-T I.371): the moment at which the bucket will be full again. So a worker reads and writes
//! a few bytes. They hold the rate, too: when it changes, at a peak's edge or by a configuration, the bucket
//! stays as full as it was, measured by its depth, and fills at the rate in force.

use std::time::Duration;

use crate::{time::MonoTime, timetable::Traffic};

/// Largest rate and burst.
pub const PER_SECOND_MAX: u32 = 1_000_000;
/// Told to those whom a rate of 0 refuses.
const NEVER_RETRY_AFTER: Duration = Duration::from_secs(60);
const SECOND_NANOS: u64 = 1_000_000_000;
const BUCKET_BYTES: usize = 20;

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
    /// Among whom it is shared.
    pub scope: Scope,
}

/// Among whom a limit is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Each Envoy has all of it, shared by its workers.
    #[default]
    Envoy,
    /// The proxies of one gateway, or of one service, have equal shares of it.
    Fleet,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 2] = [Self::Envoy, Self::Fleet];

    /// `envoy` or `fleet`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Fleet => "fleet",
        }
    }
}

/// Of how many proxies one is that decides: each takes one share of what they have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetSize(u32);

impl FleetSize {
    /// The only one.
    pub const ONE: Self = Self(1);
    /// More have the share of one of so many.
    pub const MAX: Self = Self(1_000_000);

    /// So many; of none there is still the one that decides.
    pub fn new(count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self(count.clamp(Self::ONE.0, Self::MAX.0))
    }

    /// How many.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for FleetSize {
    fn default() -> Self {
        Self::ONE
    }
}

/// A limit at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Requests per second, of all who share it; 0 refuses all.
    pub per_second: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
    /// Among how many.
    pub shared_by: FleetSize,
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
            shared_by: FleetSize::ONE,
        }
    }

    /// One proxy's share of what holds now. A share is a longer time between tokens, never a rounded rate: shares add
    /// up to the limit, and none of them is nothing. Of a burst each has at least one request.
    pub fn share(&self, traffic: &Traffic, proxies: FleetSize) -> Rate {
        let whole = self.rate(traffic);
        match self.scope {
            Scope::Envoy => whole,
            Scope::Fleet => Rate {
                burst: (whole.burst / proxies.get()).max(1),
                shared_by: proxies,
                ..whole
            },
        }
    }
}

impl Rate {
    /// Nanoseconds from one token to the next; the rate is not 0.
    fn interval(self) -> u64 {
        SECOND_NANOS * u64::from(self.shared_by.get()) / u64::from(self.per_second.max(1))
    }

    /// Nanoseconds until an empty bucket is full.
    fn depth(self) -> u64 {
        self.interval().saturating_mul(u64::from(self.burst))
    }

    /// Requests per second of one of those who share it.
    pub fn own_per_second(self) -> f64 {
        f64::from(self.per_second) / f64::from(self.shared_by.get())
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
        let Ok(bytes) = <[u8; BUCKET_BYTES]>::try_from(bytes) else {
            return Self::default();
        };
        let [full_at, per_second, burst, shared_by] = [0..8, 8..12, 12..16, 16..20].map(|at| {
            let mut number = [0; 8];
            let read = bytes.get(at).unwrap_or_default();
            if let Some(place) = number.get_mut(..read.len()) {
                place.copy_from_slice(read);
            }
            u64::from_le_bytes(number)
        });
        let small = |number: u64| u32::try_from(number).unwrap_or(0);
        Self {
            full_at,
            rate: Rate {
                per_second: small(per_second),
                burst: small(burst),
                shared_by: FleetSize(small(shared_by).max(1)),
            },
        }
    }

    /// As bytes for memory that workers share.
    pub fn encode(self) -> [u8; BUCKET_BYTES] {
        let Rate {
            per_second,
            burst,
            shared_by,
        } = self.rate;
        let numbers = [per_second, burst, shared_by.get()].map(u32::to_le_bytes);
        let mut bytes = [0; BUCKET_BYTES];
        let written = self.full_at.to_le_bytes().into_iter();
        let written = written.chain(numbers.into_iter().flatten());
        for (place, byte) in bytes.iter_mut().zip(written) {
            *place = byte;
        }
        bytes
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When there is none: how long until there is. The bucket is unchanged then, unless the rate was another
    /// one before: a bucket that changed must be kept, or it would go on filling at the rate before.
    pub fn take(&mut self, rate: Rate, now: MonoTime) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Err(NEVER_RETRY_AFTER);
        }
        if rate != self.rate {
            self.adopt(rate, now);
        }
        let now = now.nanos();
        let next = self.full_at.max(now).saturating_add(rate.interval());
        let early = next.saturating_sub(now.saturating_add(rate.depth()));
        if early > 0 {
            return Err(Duration::from_nanos(early));
        }
        self.full_at = next;
        Ok(())
    }

    /// Gives back a token that was taken at this rate and was not used.
    pub fn give_back(&mut self, rate: Rate) {
        if rate == self.rate && rate.per_second > 0 {
            self.full_at = self.full_at.saturating_sub(rate.interval());
        }
    }

    /// Goes on at another rate, as full as it is: an empty bucket stays empty. So two rules that take turns, as
    /// two filters of one Envoy may, or workers at a peak's edge, find no token that nobody waited for.
    #[cold]
    fn adopt(&mut self, rate: Rate, now: MonoTime) {
        let lacking = u128::from(self.full_at.saturating_sub(now.nanos()));
        let (before, after) = (self.rate.depth().max(1), rate.depth());
        let lacking = (lacking * u128::from(after)).div_ceil(u128::from(before));
        let lacking = u64::try_from(lacking).unwrap_or(u64::MAX).min(after);
        *self = Self {
            full_at: now.nanos().saturating_add(lacking),
            rate,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        time::{CivilZone, WallTime},
        timetable::Timetable,
    };

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second,
            burst,
            shared_by: FleetSize::ONE,
        }
    }

    fn limit(per_second: u32, burst: u32, scope: Scope) -> Limit {
        Limit {
            per_second,
            at_peak: None,
            at_festival: None,
            burst: Some(burst),
            observe: false,
            scope,
        }
    }

    /// Outside of any window.
    fn share(limit: &Limit, proxies: usize) -> Rate {
        let timetable = Timetable::new(CivilZone::utc(), Vec::new(), Vec::new());
        let traffic = timetable.at(WallTime::from_unix_millis(0), None);
        limit.share(&traffic, FleetSize::new(proxies))
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
            let next = bucket.take(thousand, at(millis * 1_000));
            assert_eq!(next, Err(Duration::from_millis(1)));
            bucket = TokenBucket::decode(&bucket.encode());
            assert_eq!(bucket.take(thousand, at(millis * 1_000 + 1_000)), Ok(()));
        }
    }

    #[test]
    fn a_bucket_that_was_emptied_is_not_filled_by_a_stricter_rate() {
        let mut bucket = TokenBucket::default();
        while bucket.take(rate(1_000, 60), at(5_000_000)).is_ok() {}
        assert_eq!(
            bucket.take(rate(5, 60), at(5_000_000)),
            Err(Duration::from_millis(200))
        );
    }

    #[test]
    fn a_full_bucket_is_full_at_any_rate() {
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(rate(10, 2), at(5_000_000)), Ok(()));
        let (later, ten) = (at(5_100_000), rate(100, 10));
        for _ in 0..10 {
            assert_eq!(bucket.take(ten, later), Ok(()));
        }
        assert!(bucket.take(ten, later).is_err());
    }

    #[test]
    fn rules_that_take_turns_share_one_bucket() {
        let (slow, fast) = (rate(100, 10), rate(200, 20));
        let mut bucket = TokenBucket::default();
        let (mut slow_passed, mut fast_passed) = (0, 0);
        for tick in 0..30_000 {
            let now = at(5_000_000 + tick * 100);
            bucket = TokenBucket::decode(&bucket.encode());
            match tick % 2 {
                0 => slow_passed += u32::from(bucket.take(slow, now).is_ok()),
                _ => fast_passed += u32::from(bucket.take(fast, now).is_ok()),
            }
        }
        // Of three seconds and a burst, each request takes the share that is one of its rule's.
        let taken = f64::from(slow_passed) / 100.0 + f64::from(fast_passed) / 200.0;
        assert!(
            (3.0..=3.11).contains(&taken),
            "{slow_passed} and {fast_passed}"
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

    #[test]
    fn a_limit_of_one_envoy_is_divided_among_nobody() {
        assert_eq!(share(&limit(10, 5, Scope::Envoy), 7), rate(10, 5));
        assert_eq!(share(&limit(10, 5, Scope::Fleet), 0), rate(10, 5));
        assert_eq!(FleetSize::new(usize::MAX), FleetSize::MAX);
    }

    proptest! {
        /// However many share a limit, together they let through what it says and no more; and each of them something.
        #[test]
        fn shares_add_up_to_the_limit_and_none_is_nothing(
            per_second in 1_u32..20_000,
            burst in 1_u32..2_000,
            proxies in 1_usize..400,
        ) {
            let share = share(&limit(per_second, burst, Scope::Fleet), proxies);
            let all = share.own_per_second() * f64::from(share.shared_by.get());
            prop_assert!((all - f64::from(per_second)).abs() < 1e-6);
            // What a nanosecond's rounding gives more than that is less than a millionth of it, for each at most.
            let interval = share.interval();
            let exact = u128::from(SECOND_NANOS) * proxies as u128;
            let by_intervals = exact / u128::from(interval);
            prop_assert!(by_intervals >= u128::from(per_second));
            prop_assert!(by_intervals <= u128::from(per_second) + 1 + u128::from(per_second) * u128::from(per_second) / 1_000_000_000);
            let at_once = u64::from(share.burst) * proxies as u64;
            prop_assert!(at_once <= u64::from(burst).max(proxies as u64));
            prop_assert!(share.burst >= 1);
            // One of them, asked all the time for as long as it takes to give ten: all by its share.
            let mut bucket = TokenBucket::default();
            let start = 1_000_000_000;
            let mut passed = 0_u64;
            for tenth in 0..=100 {
                let now = MonoTime::from_nanos(start + tenth * interval / 10);
                while bucket.take(share, now).is_ok() {
                    passed += 1;
                    bucket = TokenBucket::decode(&bucket.encode());
                }
            }
            prop_assert_eq!(passed, 10 + u64::from(share.burst));
        }

        /// Tokens that were taken stay taken when the share becomes another.
        #[test]
        fn a_new_share_gives_no_second_burst(
            per_second in 10_u32..5_000,
            burst in 1_u32..500,
            before in 1_usize..8,
            after in 1_usize..8,
        ) {
            let mut bucket = TokenBucket::default();
            let limit = limit(per_second, burst, Scope::Fleet);
            let mut passed = 0_u64;
            for proxies in [before, after] {
                while bucket.take(share(&limit, proxies), at(1_000_000)).is_ok() {
                    passed += 1;
                }
            }
            prop_assert!(passed <= u64::from(burst), "{passed}");
        }

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
