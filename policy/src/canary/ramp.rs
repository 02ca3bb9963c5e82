//! A canary's weight as a function of time: it grows step by step, and stands still at times that the
//! calendar names.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    time::{WallTime, format_duration},
    timetable::{Freeze, Timetable},
    units::{BasisPoints, UnitError},
};

/// Most steps of a ramp.
pub const RAMP_STEPS_MAX: usize = 100;
/// Shortest and longest time between two steps.
pub const RAMP_EVERY: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
/// A ramp's clock is followed for so long after its start, that is four years: a step that the calendar
/// puts off beyond never comes.
const FOLLOWED_FOR: Duration = Duration::from_secs(1461 * 24 * 60 * 60);

/// How a canary's weight grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ramp {
    start: WallTime,
    steps: Vec<BasisPoints>,
    every: Duration,
}

impl Ramp {
    /// From `start` on, one step after the other `every` so long.
    ///
    /// # Errors
    /// When there is no step or more than [`RAMP_STEPS_MAX`], when a step falls below the one before,
    /// or when `every` is outside [`RAMP_EVERY`].
    pub fn new(
        start: WallTime,
        steps: Vec<BasisPoints>,
        every: Duration,
    ) -> Result<Self, UnitError> {
        let out_of_range = |range, found| Err(UnitError::OutOfRange { range, found });
        if !(1..=RAMP_STEPS_MAX).contains(&steps.len()) {
            return out_of_range("1 to 100 steps", steps.len().to_string());
        }
        if !RAMP_EVERY.contains(&every) {
            return out_of_range("a step every 1s to 168h", format_duration(every));
        }
        if let Some((before, after)) = steps.iter().zip(steps.iter().skip(1)).find(|(a, b)| b < a) {
            return out_of_range("steps that do not fall", format!("{before}, then {after}"));
        }
        Ok(Self {
            start,
            steps,
            every,
        })
    }

    /// Before it the weight is 0.
    pub fn start(&self) -> WallTime {
        self.start
    }

    /// The weights, in their order.
    pub fn steps(&self) -> &[BasisPoints] {
        &self.steps
    }

    /// Unfrozen time between two steps.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// The highest weight that it reaches.
    pub fn highest(&self) -> BasisPoints {
        self.steps
            .iter()
            .copied()
            .max()
            .unwrap_or(BasisPoints::ZERO)
    }

    /// When each step comes. The first one comes at the first unfrozen instant from the start on, each
    /// further one at the first unfrozen instant with so much unfrozen time behind it. So nothing
    /// changes while the calendar freezes it.
    pub fn schedule(&self, freeze: &Freeze, timetable: &Timetable) -> Schedule {
        let until = self.start.saturating_add(FOLLOWED_FOR);
        let mut due = (0_u64..).zip(&self.steps).map(|(index, weight)| {
            let wait = self
                .every
                .saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            (wait, *weight)
        });
        let mut next = due.next();
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut behind = Duration::ZERO;
        for stretch in timetable.unfrozen(freeze, self.start, until) {
            let length = stretch.start.until(stretch.end);
            while let Some((wait, weight)) = next {
                let into = wait.saturating_sub(behind);
                if into >= length {
                    break;
                }
                let from = stretch.start.saturating_add(into);
                steps.push(Step { from, weight });
                next = due.next();
            }
            if next.is_none() {
                break;
            }
            behind = behind.saturating_add(length);
        }
        let complete = next.is_none();
        Schedule { steps, complete }
    }
}

/// One step of a ramp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The first instant of its weight.
    pub from: WallTime,
    /// The weight.
    pub weight: BasisPoints,
}

/// A ramp laid over a calendar: a weight for every instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    steps: Vec<Step>,
    complete: bool,
}

impl Schedule {
    /// The steps that come, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether every step comes; else the calendar freezes the ramp for years.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How many steps have come at an instant.
    pub fn taken(&self, wall: WallTime) -> usize {
        self.steps.partition_point(|step| step.from <= wall)
    }

    /// The weight at an instant.
    pub fn at(&self, wall: WallTime) -> BasisPoints {
        let last = self.taken(wall).checked_sub(1);
        let last = last.and_then(|last| self.steps.get(last));
        last.map_or(BasisPoints::ZERO, |step| step.weight)
    }

    /// The step after an instant.
    pub fn next_after(&self, wall: WallTime) -> Option<Step> {
        self.steps.get(self.taken(wall)).copied()
    }
}

#[cfg(test)]
mod tests;
