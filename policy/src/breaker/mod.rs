//! The circuit breaker: Closed = traffic flows, Open = refused, HalfOpen = probing.
//!
//! One [`Cell`] per service, version and class, in memory that all workers of an Envoy share. A cell
//! is a small value: decode it, change it, write it back if nobody else did. Every transition begins
//! a new generation, and a result that belongs to an older one changes nothing. Time is monotonic, so
//! that no step of the wall clock lengthens an opening.

mod cell;
mod codec;
mod rules;
mod window;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod simulation;

use std::{fmt, time::Duration};

use crate::outcome::Outcome;

pub use cell::Cell;
pub use codec::{CELL_BYTES, Glance};
pub use rules::{
    BreakerOverride, BreakerPlan, BreakerRules, ErrorRate, HALF_OPEN_PROBES_MAX, Latch, SlowCalls,
    TimedRules,
};

/// State of a breaker; its number is the value of the gauge `mumbai_mesh_circuit_breaker_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BreakerState {
    /// Traffic flows.
    Closed = 0,
    /// Requests are refused.
    Open = 1,
    /// A few requests are admitted as probes.
    HalfOpen = 2,
}

impl BreakerState {
    /// `closed`, `open` or `half_open`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a step did to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Closed -> Open.
    Opened,
    /// Open -> HalfOpen.
    HalfOpened,
    /// HalfOpen -> Closed.
    Closed,
    /// HalfOpen -> Open.
    Reopened,
}

/// Proof of admission, handed back with the result, at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    generation: u32,
    probe: Option<u8>,
}

impl Ticket {
    /// One that was written down and comes back. A number that no breaker gave changes nothing.
    pub fn of(generation: u32, probe: Option<u8>) -> Self {
        Self { generation, probe }
    }

    /// The slot of a probe.
    pub fn probe(self) -> Option<u8> {
        self.probe
    }

    /// The generation that admitted the request.
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// Whether the request probes a half-open breaker.
    pub fn is_probe(self) -> bool {
        self.probe.is_some()
    }
}

/// How an admitted request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Whether the upstream did its work.
    pub outcome: Outcome,
    /// Whether it took too long. Never of an upgrade or a stream: they last as long as they are used.
    pub slow: bool,
}

impl Completion {
    /// A request's end after `time`; none for one whose length says nothing.
    pub fn new(outcome: Outcome, time: Option<Duration>, rules: &BreakerRules) -> Self {
        let over = rules.slow_calls.map(|slow| slow.over);
        Self {
            outcome,
            slow: over.zip(time).is_some_and(|(over, time)| time > over),
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// The breaker is open.
    BreakerOpen,
    /// It is open until a person changes the canary whose breaker it is.
    Latched,
    /// It is half-open, and all its probes are out.
    BreakerHalfOpen,
}

impl RefusalReason {
    /// The value of `x-mumbai-reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BreakerOpen | Self::Latched => "breaker_open",
            Self::BreakerHalfOpen => "breaker_half_open",
        }
    }
}

/// Answer of a breaker to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Let it through and tell how it ended.
    Admitted(Ticket),
    /// Refuse it.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// Rest of the opening, or until the earliest probe must have answered.
        retry_after: Duration,
    },
}

/// Result of one step of a [`Cell`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<T> {
    /// The answer.
    pub value: T,
    /// Whether the cell differs from before and must be written back.
    pub changed: bool,
    /// The transition taken, if any.
    pub transition: Option<Transition>,
}

impl<T> Step<T> {
    fn unchanged(value: T) -> Self {
        Self {
            value,
            changed: false,
            transition: None,
        }
    }

    fn changed(value: T, transition: Option<Transition>) -> Self {
        Self {
            value,
            changed: true,
            transition,
        }
    }
}
