//! A sliding window of ten buckets: what happened between nine and ten tenths of it ago is forgotten
//! all at once.

use std::time::Duration;

use crate::{time::MonoTime, units::BasisPoints};

pub(super) const BUCKETS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    pub(super) successes: u32,
    pub(super) failures: u32,
}

/// Successes and failures of the last window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Window {
    /// Number of the newest bucket since the clock's start.
    pub(super) newest: u64,
    pub(super) buckets: [Bucket; BUCKETS],
}

impl Window {
    /// The bucket of `now`, after forgetting what is too old. A worker whose clock is a moment
    /// behind counts into the newest bucket.
    fn bucket(&mut self, now: MonoTime, length: Duration) -> Option<&mut Bucket> {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let width = (length / BUCKETS as u64).max(1);
        let number = now.nanos() / width;
        let passed = number.saturating_sub(self.newest);
        if passed >= BUCKETS as u64 {
            self.buckets = Default::default();
        } else {
            for step in 1..=passed {
                if let Some(bucket) = self.slot(self.newest + step) {
                    *bucket = Bucket::default();
                }
            }
        }
        self.newest = self.newest.max(number);
        self.slot(self.newest)
    }

    fn slot(&mut self, number: u64) -> Option<&mut Bucket> {
        let index = usize::try_from(number % BUCKETS as u64).ok()?;
        self.buckets.get_mut(index)
    }

    pub(super) fn count(&mut self, successes: u32, failures: u32, now: MonoTime, length: Duration) {
        if let Some(bucket) = self.bucket(now, length) {
            bucket.successes = bucket.successes.saturating_add(successes);
            bucket.failures = bucket.failures.saturating_add(failures);
        }
    }

    /// Whether there are at least `minimum` requests, and at least that share of them are bad. Call
    /// after counting.
    pub(super) fn reaches(&self, minimum: u32, percent: BasisPoints) -> bool {
        let (total, bad) = self.totals();
        total >= u64::from(minimum) && bad * 10_000 >= u64::from(percent.get()) * total
    }

    fn totals(&self) -> (u64, u64) {
        self.buckets.iter().fold((0, 0), |(total, failed), bucket| {
            let (successes, failures) = (u64::from(bucket.successes), u64::from(bucket.failures));
            (total + successes + failures, failed + failures)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut window = Window::default();
        window.count(1, 1, at(500), LENGTH);
        window.count(2, 0, at(9_900), LENGTH);
        assert_eq!(window.totals(), (4, 1));
        window.count(0, 1, at(10_000), LENGTH);
        assert_eq!(window.totals(), (3, 1), "the first second is gone");
        window.count(0, 0, at(60_000), LENGTH);
        assert_eq!(window.totals(), (0, 0));
    }

    #[test]
    fn a_clock_that_is_behind_counts_into_the_newest_bucket() {
        let mut window = Window::default();
        window.count(1, 0, at(5_000), LENGTH);
        window.count(1, 0, at(3_999), LENGTH);
        assert_eq!(window.totals(), (2, 0));
    }
}
