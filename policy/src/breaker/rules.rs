//! When a breaker opens, for how long, and what closes it.

use std::time::Duration;

use xxhash_rust::xxh64::Xxh64;

use crate::units::BasisPoints;

/// Most probes of one half-open spell: their slots are bits of a word.
pub const HALF_OPEN_PROBES_MAX: u8 = 32;

const OPEN_FOR: Duration = Duration::from_secs(5);
const HALF_OPEN_PROBES: u8 = 3;
const WINDOW: Duration = Duration::from_secs(10);
const MINIMUM_REQUESTS: u32 = 20;
const HALF: u32 = 5_000;

/// Opens when so many of the requests of a sliding window failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRate {
    /// Share of failures that opens it.
    pub percent: BasisPoints,
    /// Fewer requests in the window open nothing. At least 1.
    pub minimum_requests: u32,
    /// Length of the window.
    pub window: Duration,
}

impl Default for ErrorRate {
    /// 50 % of at least 20 requests in 10 s.
    fn default() -> Self {
        Self {
            percent: BasisPoints::new(HALF).unwrap_or_default(),
            minimum_requests: MINIMUM_REQUESTS,
            window: WINDOW,
        }
    }
}

/// Rules of one breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerRules {
    /// Failures in a row that open it, at least 1.
    pub consecutive_failures: Option<u32>,
    /// Share of failures that opens it.
    pub error_rate: Option<ErrorRate>,
    /// Length of the first opening; doubles with each further one, to at most ten times.
    pub open_for: Duration,
    /// Requests admitted while half-open, 1..=32; all must succeed.
    pub half_open_probes: u8,
    /// A probe unanswered for so long counts as failed.
    pub lease: Duration,
    /// On a canary's breaker: a hash of the canary's fields. Once open it stays open until they
    /// change, and the canary's users are served by stable.
    pub latch: Option<u64>,
}

impl BreakerRules {
    /// What holds where the file names no rule: the default error rate only.
    pub fn default_for(route_timeout: Option<Duration>) -> Self {
        Self {
            consecutive_failures: None,
            error_rate: Some(ErrorRate::default()),
            open_for: OPEN_FOR,
            half_open_probes: HALF_OPEN_PROBES,
            lease: Self::lease_for(OPEN_FOR, route_timeout),
            latch: None,
        }
    }

    /// A probe may take as long as its route allows, and at least as long as an opening.
    pub fn lease_for(open_for: Duration, route_timeout: Option<Duration>) -> Duration {
        /// Envoy's own default.
        const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);
        open_for.max(route_timeout.unwrap_or(ROUTE_TIMEOUT))
    }

    /// Hash of what is counted: other rules begin to count anew. The latch is no part of it.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh64::new(0);
        let mut number = |number: u64| hash.update(&number.to_le_bytes());
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        number(u64::from(self.consecutive_failures.unwrap_or(0)));
        match &self.error_rate {
            Some(rate) => {
                number(u64::from(rate.percent.get()) + 1);
                number(u64::from(rate.minimum_requests));
                number(nanos(rate.window));
            }
            None => number(0),
        }
        number(nanos(self.open_for));
        number(u64::from(self.half_open_probes));
        hash.digest()
    }
}
