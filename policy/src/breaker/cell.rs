//! One breaker.

use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

use super::{
    Admission, BreakerRules, BreakerState, Completion, HALF_OPEN_PROBES_MAX, RefusalReason, Step,
    Ticket, Transition, window::Window,
};
use crate::{outcome::Outcome, time::MonoTime};

/// A breaker that stayed closed for so long opens for the shortest time again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Longest opening, as a multiple of `open_for`.
const BACK_OFF_MAX: u32 = 10;
/// Openings are lengthened by up to this share, so that Envoys do not probe in step.
const JITTER_PERCENT: u64 = 20;

pub(super) const SLOTS: usize = HALF_OPEN_PROBES_MAX as usize;

/// State of one breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub(super) state: BreakerState,
    pub(super) generation: u32,
    /// Fingerprint of the rules by which it counts.
    pub(super) rules: u64,
    /// Failures in a row while closed.
    pub(super) failures_in_a_row: u32,
    /// Openings since it was last closed for a whole minute.
    pub(super) openings: u32,
    /// End of the opening while Open; the moment of closing while Closed.
    pub(super) until_or_since: MonoTime,
    /// Open until the canary changes: the hash of its fields when it opened.
    pub(super) latched: Option<u64>,
    /// Probes out, and probes that succeeded: one bit per slot.
    pub(super) probes_out: u32,
    pub(super) probes_succeeded: u32,
    /// By slot: when the probe that is out counts as failed.
    pub(super) leases: [MonoTime; SLOTS],
    pub(super) window: Window,
    /// Of calls in time (successes) and slow ones (failures).
    pub(super) slow: Window,
}

impl Cell {
    /// A breaker that has seen nothing yet.
    pub fn closed(rules: &BreakerRules) -> Self {
        Self {
            state: BreakerState::Closed,
            generation: 0,
            rules: rules.fingerprint(),
            failures_in_a_row: 0,
            openings: 0,
            until_or_since: MonoTime::from_nanos(0),
            latched: None,
            probes_out: 0,
            probes_succeeded: 0,
            leases: [MonoTime::from_nanos(0); SLOTS],
            window: Window::default(),
            slow: Window::default(),
        }
    }

    /// Its state.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Its generation: a result of another one changes nothing.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether a success changes nothing that others must see at once: it may be told later, with
    /// [`record_successes`](Self::record_successes).
    pub fn success_may_wait(&self) -> bool {
        self.state == BreakerState::Closed && self.failures_in_a_row == 0
    }

    /// The cell under rules that may have changed since it was written: its state survives, its
    /// counts begin anew. A latch holds only for the canary that set it.
    pub(super) fn under(mut self, rules: &BreakerRules) -> Self {
        let canary = rules.latch.map(|latch| latch.canary);
        if self.latched.is_some() && self.latched != canary {
            return Self {
                generation: self.generation.wrapping_add(1),
                ..Self::closed(rules)
            };
        }
        let fingerprint = rules.fingerprint();
        if self.rules == fingerprint {
            return self;
        }
        self.rules = fingerprint;
        self.failures_in_a_row = 0;
        self.window = Window::default();
        self.slow = Window::default();
        if self.state == BreakerState::HalfOpen {
            // The new number of probes must succeed; the old ones' results count no more.
            self.forget_probes();
            self.generation = self.generation.wrapping_add(1);
        }
        self
    }

    /// Whether it is open until a person changes the canary whose breaker it is.
    pub fn is_latched(&self) -> bool {
        self.latched.is_some()
    }

    /// Latches because another breaker of its canary did: a canary is trusted by all classes or by none.
    pub fn latch(&mut self, rules: &BreakerRules, now: MonoTime) -> Step<()> {
        let canary = rules.latch.map(|latch| latch.canary);
        if canary.is_none() || self.latched == canary {
            return Step::unchanged(());
        }
        let transition = match self.state {
            BreakerState::Closed => Some(Transition::Opened),
            BreakerState::HalfOpen => Some(Transition::Reopened),
            BreakerState::Open => None,
        };
        self.open(rules, now);
        self.latched = canary;
        Step::changed((), transition)
    }

    /// Asks for one request.
    pub fn admit(&mut self, rules: &BreakerRules, now: MonoTime) -> Step<Admission> {
        match self.state {
            BreakerState::Closed => Step::unchanged(Admission::Admitted(Ticket {
                generation: self.generation,
                probe: None,
            })),
            BreakerState::Open if self.latched.is_some() => {
                Step::unchanged(refused(RefusalReason::Latched, rules.open_for))
            }
            BreakerState::Open => {
                let rest = self.until_or_since.saturating_since(now);
                if !rest.is_zero() {
                    return Step::unchanged(refused(RefusalReason::BreakerOpen, rest));
                }
                self.begin(BreakerState::HalfOpen);
                let first = self.admit_probe(rules, now);
                Step::changed(first, Some(Transition::HalfOpened))
            }
            BreakerState::HalfOpen if self.a_lease_ended(now) => {
                self.open(rules, now);
                let rest = self.until_or_since.saturating_since(now);
                let answer = refused(RefusalReason::BreakerOpen, rest);
                Step::changed(answer, Some(Transition::Reopened))
            }
            BreakerState::HalfOpen => match self.admit_probe(rules, now) {
                admitted @ Admission::Admitted(_) => Step::changed(admitted, None),
                refused @ Admission::Refused { .. } => Step::unchanged(refused),
            },
        }
    }

    /// Tells how an admitted request ended, and whether it took too long.
    pub fn record(
        &mut self,
        rules: &BreakerRules,
        ticket: Ticket,
        result: Completion,
        now: MonoTime,
    ) -> Step<()> {
        if ticket.generation != self.generation {
            return Step::unchanged(());
        }
        match (self.state, ticket.probe) {
            (BreakerState::Closed, None) => self.record_closed(rules, result, now),
            (BreakerState::HalfOpen, Some(slot)) => self.record_probe(rules, slot, result, now),
            _ => Step::unchanged(()),
        }
    }

    /// Tells of `count` successes that could wait. They end no row of failures: when each of them
    /// ended there was none.
    pub fn record_successes(
        &mut self,
        rules: &BreakerRules,
        generation: u32,
        count: u32,
        now: MonoTime,
    ) -> Step<()> {
        if rules.error_rate.is_none() && rules.slow_calls.is_none() {
            return Step::unchanged(());
        }
        if generation != self.generation || self.state != BreakerState::Closed {
            return Step::unchanged(());
        }
        self.count(rules, (count, 0), (count, 0), now);
        Step::changed((), None)
    }

    fn record_closed(
        &mut self,
        rules: &BreakerRules,
        result: Completion,
        now: MonoTime,
    ) -> Step<()> {
        let failed = match result.outcome {
            Outcome::Ignored => return Step::unchanged(()),
            Outcome::Success => false,
            Outcome::Failure => true,
        };
        self.failures_in_a_row = match failed {
            true => self.failures_in_a_row.saturating_add(1),
            false => 0,
        };
        let one = |bad: bool| (u32::from(!bad), u32::from(bad));
        self.count(rules, one(failed), one(result.slow), now);
        let failures = failed && self.too_many_failures(rules);
        let slow = result.slow && self.too_many_slow(rules);
        if failures || slow {
            self.open(rules, now);
            return Step::changed((), Some(Transition::Opened));
        }
        Step::changed((), None)
    }

    /// Counts `(good, bad)` requests by outcome and by time.
    fn count(
        &mut self,
        rules: &BreakerRules,
        outcomes: (u32, u32),
        times: (u32, u32),
        now: MonoTime,
    ) {
        if let Some(rate) = &rules.error_rate {
            self.window.count(outcomes.0, outcomes.1, now, rate.window);
        }
        if let Some(slow) = &rules.slow_calls {
            self.slow.count(times.0, times.1, now, slow.window);
        }
    }

    fn too_many_failures(&self, rules: &BreakerRules) -> bool {
        let in_a_row = rules
            .consecutive_failures
            .is_some_and(|most| self.failures_in_a_row >= most);
        let rate = rules
            .error_rate
            .is_some_and(|rate| self.window.reaches(rate.minimum_requests, rate.percent));
        in_a_row || rate
    }

    fn too_many_slow(&self, rules: &BreakerRules) -> bool {
        rules
            .slow_calls
            .is_some_and(|slow| self.slow.reaches(slow.minimum_requests, slow.percent))
    }

    fn record_probe(
        &mut self,
        rules: &BreakerRules,
        slot: u8,
        result: Completion,
        now: MonoTime,
    ) -> Step<()> {
        let bit = 1_u32.checked_shl(u32::from(slot)).unwrap_or(0);
        if self.probes_out & bit == 0 {
            return Step::unchanged(());
        }
        let failed = match result.outcome {
            Outcome::Failure => true,
            // An answer that comes too late proves that the service has not recovered.
            Outcome::Success => result.slow,
            Outcome::Ignored => false,
        };
        if failed || self.a_lease_ended(now) {
            self.open(rules, now);
            return Step::changed((), Some(Transition::Reopened));
        }
        self.probes_out &= !bit;
        if result.outcome == Outcome::Ignored {
            // Nobody saw how it ended: the slot is free for another.
            return Step::changed((), None);
        }
        self.probes_succeeded |= bit;
        if self.probes_succeeded.count_ones() < u32::from(rules.half_open_probes) {
            return Step::changed((), None);
        }
        self.begin(BreakerState::Closed);
        self.until_or_since = now;
        Step::changed((), Some(Transition::Closed))
    }

    fn a_lease_ended(&self, now: MonoTime) -> bool {
        self.leases_out().any(|lease| lease <= now)
    }

    fn leases_out(&self) -> impl Iterator<Item = MonoTime> {
        (0..)
            .zip(self.leases)
            .filter(|(slot, _)| self.probes_out >> slot & 1 == 1)
            .map(|(_, lease): (u32, MonoTime)| lease)
    }

    fn admit_probe(&mut self, rules: &BreakerRules, now: MonoTime) -> Admission {
        let used = self.probes_out | self.probes_succeeded;
        let slot = used.trailing_ones();
        let probes = rules.half_open_probes.clamp(1, HALF_OPEN_PROBES_MAX);
        let lease = usize::try_from(slot)
            .ok()
            .filter(|_| slot < u32::from(probes))
            .and_then(|slot| self.leases.get_mut(slot));
        let (Some(lease), Ok(probe)) = (lease, u8::try_from(slot)) else {
            let earliest = self.leases_out().min().unwrap_or(now);
            let rest = earliest.saturating_since(now);
            return refused(RefusalReason::BreakerHalfOpen, rest);
        };
        *lease = now.saturating_add(rules.lease);
        self.probes_out |= 1 << slot;
        Admission::Admitted(Ticket {
            generation: self.generation,
            probe: Some(probe),
        })
    }

    fn open(&mut self, rules: &BreakerRules, now: MonoTime) {
        let closed_since = self.until_or_since;
        if self.state == BreakerState::Closed
            && now.saturating_since(closed_since) >= FORGIVEN_AFTER
        {
            self.openings = 0;
        }
        let back_off = 1_u32
            .checked_shl(self.openings)
            .unwrap_or(BACK_OFF_MAX)
            .min(BACK_OFF_MAX);
        self.openings = self.openings.saturating_add(1).min(u32::BITS);
        self.begin(BreakerState::Open);
        let length = rules.open_for.saturating_mul(back_off);
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        // Nanoseconds of the moment are as good as dice: no two Envoys open in the same one.
        let dice = xxh64(&now.nanos().to_le_bytes(), u64::from(self.generation));
        let jitter = length / 100 * (dice % (JITTER_PERCENT + 1));
        let length = Duration::from_nanos(length.saturating_add(jitter));
        self.until_or_since = now.saturating_add(length);
        let latch = rules.latch.filter(|latch| latch.engages);
        self.latched = latch.map(|latch| latch.canary);
    }

    /// Every transition is a new generation that has counted nothing.
    fn begin(&mut self, state: BreakerState) {
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
        self.failures_in_a_row = 0;
        self.latched = None;
        self.window = Window::default();
        self.slow = Window::default();
        self.forget_probes();
    }

    fn forget_probes(&mut self) {
        self.probes_out = 0;
        self.probes_succeeded = 0;
        self.leases = [MonoTime::from_nanos(0); SLOTS];
    }
}

fn refused(reason: RefusalReason, retry_after: Duration) -> Admission {
    Admission::Refused {
        reason,
        retry_after,
    }
}
