//! When a breaker opens, for how long, and what closes it.

use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

use crate::{
    timetable::{RampId, Traffic},
    units::BasisPoints,
};

/// Most probes of one half-open spell: their slots are bits of a word.
pub const HALF_OPEN_PROBES_MAX: u8 = 32;

/// All numbers of the rules that [`BreakerRules::fingerprint`] may see.
const FINGERPRINT_NUMBERS: usize = 10;
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

/// Opens when so many of the calls of a sliding window took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowCalls {
    /// A call is slow when its total time passes this.
    pub over: Duration,
    /// Share of slow calls that opens it.
    pub percent: BasisPoints,
    /// Fewer calls in the window open nothing. At least 1.
    pub minimum_requests: u32,
    /// Length of the window.
    pub window: Duration,
}

impl SlowCalls {
    /// The default window and volume.
    pub fn new(over: Duration, percent: BasisPoints) -> Self {
        Self {
            over,
            percent,
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
    /// Share of slow calls that opens it.
    pub slow_calls: Option<SlowCalls>,
    /// Length of the first opening; doubles with each further one, to at most ten times.
    pub open_for: Duration,
    /// Requests admitted while half-open, 1..=32; all must succeed.
    pub half_open_probes: u8,
    /// A probe unanswered for so long counts as failed.
    pub lease: Duration,
    /// On a canary's breaker that latches: once open it stays open until the canary's fields change,
    /// and the canary's users are served by stable.
    pub latch: Option<Latch>,
}

/// How a canary's breaker latches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latch {
    /// A hash of the canary's fields.
    pub canary: u64,
    /// Whether an opening now latches. Else one that latched before holds on, and a new one is as any
    /// breaker's.
    pub engages: bool,
}

impl BreakerRules {
    /// Of a route that says none: Envoy's own.
    pub const DEFAULT_ROUTE_TIMEOUT: Duration = Duration::from_secs(15);

    /// What holds where the file names no rule: the default error rate only.
    pub fn default_for(route_timeout: Option<Duration>) -> Self {
        Self {
            consecutive_failures: None,
            error_rate: Some(ErrorRate::default()),
            slow_calls: None,
            open_for: OPEN_FOR,
            half_open_probes: HALF_OPEN_PROBES,
            lease: Self::lease_for(OPEN_FOR, route_timeout),
            latch: None,
        }
    }

    /// A probe may take as long as its route allows, and at least as long as an opening.
    pub fn lease_for(open_for: Duration, route_timeout: Option<Duration>) -> Duration {
        open_for.max(route_timeout.unwrap_or(Self::DEFAULT_ROUTE_TIMEOUT))
    }

    /// Hash of what is counted: other rules begin to count anew. The latch is no part of it.
    pub fn fingerprint(&self) -> u64 {
        // In one piece: it is computed for every request.
        let mut bytes = [0; 8 * FINGERPRINT_NUMBERS];
        let mut places = bytes.as_chunks_mut::<8>().0.iter_mut();
        let mut number = |number: u64| {
            if let Some(place) = places.next() {
                *place = number.to_le_bytes();
            }
        };
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
        match &self.slow_calls {
            Some(slow) => {
                number(u64::from(slow.percent.get()) + 1);
                number(nanos(slow.over));
                number(u64::from(slow.minimum_requests));
                number(nanos(slow.window));
            }
            None => number(0),
        }
        number(nanos(self.open_for));
        number(u64::from(self.half_open_probes));
        xxh64(&bytes, 0)
    }
}

/// What holds instead at certain times; what is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BreakerOverride {
    /// Instead of [`BreakerRules::consecutive_failures`].
    pub consecutive_failures: Option<u32>,
    /// Instead of [`BreakerRules::error_rate`].
    pub error_rate: Option<ErrorRate>,
    /// Instead of [`BreakerRules::slow_calls`].
    pub slow_calls: Option<SlowCalls>,
    /// Instead of [`BreakerRules::open_for`].
    pub open_for: Option<Duration>,
    /// Instead of [`BreakerRules::half_open_probes`].
    pub half_open_probes: Option<u8>,
}

/// The rules of a service's breakers over the year.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerPlan {
    /// At any time that no other field speaks of.
    pub rules: BreakerRules,
    /// In any active window, on a festival too.
    pub at_peak: Option<BreakerOverride>,
    /// On a festival; outranks `at_peak` field by field.
    pub at_festival: Option<BreakerOverride>,
    /// Decide and count, refuse nothing.
    pub observe: bool,
    /// Whether a request that Envoy itself refused (no healthy upstream, its own limits) is a failure
    /// of the service. Else it is not counted.
    pub count_envoy_refusals: bool,
}

impl BreakerPlan {
    /// What holds where the file names no rule.
    pub fn default_for(route_timeout: Option<Duration>) -> Self {
        Self {
            rules: BreakerRules::default_for(route_timeout),
            at_peak: None,
            at_festival: None,
            observe: false,
            count_envoy_refusals: true,
        }
    }

    /// The rules with a latch, which holds at all times.
    pub fn latched(&self, latch: Option<Latch>) -> Self {
        let mut plan = self.clone();
        plan.rules.latch = latch;
        plan
    }

    /// The rules at all times, made ready.
    pub fn timed(&self, route_timeout: Option<Duration>) -> TimedRules {
        let with = |overrides: [Option<&BreakerOverride>; 2]| {
            let overrides = overrides.into_iter().flatten();
            overrides.fold(self.rules.clone(), |rules, by| {
                rules.overridden(by, route_timeout)
            })
        };
        let (peak, festival) = (self.at_peak.as_ref(), self.at_festival.as_ref());
        let by_hour = [
            with([None, None]),
            with([peak, None]),
            with([festival, None]),
            with([peak, festival]),
        ];
        TimedRules {
            times_calls: by_hour.iter().any(|rules| rules.slow_calls.is_some()),
            by_hour,
            ramp: None,
        }
    }
}

impl BreakerRules {
    fn overridden(mut self, by: &BreakerOverride, route_timeout: Option<Duration>) -> Self {
        self.consecutive_failures = by.consecutive_failures.or(self.consecutive_failures);
        self.error_rate = by.error_rate.or(self.error_rate);
        self.slow_calls = by.slow_calls.or(self.slow_calls);
        self.half_open_probes = by.half_open_probes.unwrap_or(self.half_open_probes);
        if let Some(open_for) = by.open_for {
            self.open_for = open_for;
            self.lease = Self::lease_for(open_for, route_timeout);
        }
        self
    }
}

/// Rules ready for every time of the timetable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedRules {
    /// Of a normal hour, of a peak hour, on a festival, and of a peak hour on a festival.
    by_hour: [BreakerRules; 4],
    times_calls: bool,
    /// Of a canary whose weight is a ramp.
    ramp: Option<RampRules>,
}

/// While a ramp carries more users than stable could take over, an opening does not latch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RampRules {
    ramp: RampId,
    above: BasisPoints,
    then: Box<TimedRules>,
}

impl TimedRules {
    /// Rules whose openings do not latch while a ramp's weight is above a bound.
    #[must_use]
    pub fn not_latching_above(self, ramp: RampId, above: BasisPoints) -> Self {
        let mut then = self.clone();
        for rules in &mut then.by_hour {
            rules.latch = rules.latch.map(|latch| Latch {
                engages: false,
                ..latch
            });
        }
        Self {
            ramp: Some(RampRules {
                ramp,
                above,
                then: Box::new(then),
            }),
            ..self
        }
    }

    /// Whether these are the rules, at whatever time, that have this fingerprint.
    pub fn knows(&self, fingerprint: u64) -> bool {
        let mut all = self.by_hour.iter();
        all.any(|rules| rules.fingerprint() == fingerprint)
    }

    /// Whether slow calls count at some hour.
    pub fn times_calls(&self) -> bool {
        self.times_calls
    }

    /// What holds now.
    pub fn at(&self, traffic: &Traffic) -> &BreakerRules {
        if let Some(ramp) = &self.ramp
            && traffic.ramp(ramp.ramp) > ramp.above
        {
            return ramp.then.at(traffic);
        }
        let [normal, peak, festival, both] = &self.by_hour;
        match (traffic.is_peak, traffic.festival.is_some()) {
            (false, false) => normal,
            (true, false) => peak,
            (false, true) => festival,
            (true, true) => both,
        }
    }
}
