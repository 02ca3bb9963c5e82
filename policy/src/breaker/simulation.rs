//! Days in the life of a breaker, told by the filter's own rhythm: failures at once, successes of each
//! worker every 50 ms.

use std::time::Duration;

use super::{Admission, BreakerRules, BreakerState, Cell, Completion};
use crate::{outcome::Outcome, time::MonoTime};

const TICK: Duration = Duration::from_millis(50);

/// A small generator with a fixed seed: the same day every time (SplitMix64, Steele et al., 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn hits(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }
}

/// Runs traffic until the breaker opens or `length` is over; gives the time until it opened.
fn run(per_second: u64, failures_per_mille: u64, length: Duration) -> Option<Duration> {
    let rules = BreakerRules::default_for(None);
    let mut cell = Cell::closed(&rules);
    let mut dice = Dice(per_second ^ failures_per_mille);
    let mut passed = Duration::ZERO;
    let per_tick = per_second * 50 / 1000;
    while passed < length {
        passed += TICK;
        let now = MonoTime::from_nanos(0).saturating_add(passed);
        let mut successes = 0;
        for _ in 0..per_tick {
            if !dice.hits(failures_per_mille) {
                successes += 1;
                continue;
            }
            if let Admission::Admitted(ticket) = cell.admit(&rules, now).value {
                let failure = Completion::new(Outcome::Failure, None, &rules);
                cell.record(&rules, ticket, failure, now);
            }
        }
        let generation = cell.generation();
        cell.record_successes(&rules, generation, successes, now);
        if cell.state() != BreakerState::Closed {
            return Some(passed);
        }
    }
    None
}

#[test]
fn a_day_with_two_percent_of_errors_never_opens_it() {
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(run(5_000, 20, day), None);
    // Little traffic varies more.
    assert_eq!(run(20, 20, day), None);
}

#[test]
fn an_outage_with_sixty_percent_of_errors_opens_it_within_two_seconds() {
    for per_second in [40, 500, 5_000] {
        let opened = run(per_second, 600, Duration::from_secs(60));
        let opened = opened.unwrap_or_else(|| panic!("{per_second}/s: it did not open"));
        assert!(
            opened <= Duration::from_secs(2),
            "{per_second}/s: {opened:?}"
        );
    }
}
