//! Stories and random event sequences.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Admission, BreakerRules, BreakerState, CELL_BYTES, Cell, Completion, Glance, Latch,
    RefusalReason, SlowCalls, Ticket, Transition,
};
use crate::{outcome::Outcome, time::MonoTime, units::BasisPoints};

const OPEN_FOR: Duration = Duration::from_secs(5);

fn at(millis: u64) -> MonoTime {
    MonoTime::from_nanos(millis * 1_000_000)
}

fn three_in_a_row() -> BreakerRules {
    BreakerRules {
        consecutive_failures: Some(3),
        error_rate: None,
        slow_calls: None,
        open_for: OPEN_FOR,
        half_open_probes: 2,
        lease: Duration::from_secs(15),
        latch: None,
    }
}

fn ended(outcome: Outcome) -> Completion {
    Completion {
        outcome,
        slow: false,
    }
}

fn ticket(admission: Admission) -> Ticket {
    match admission {
        Admission::Admitted(ticket) => ticket,
        Admission::Refused { reason, .. } => panic!("refused: {reason:?}"),
    }
}

fn reason(admission: Admission) -> Option<RefusalReason> {
    match admission {
        Admission::Admitted(_) => None,
        Admission::Refused { reason, .. } => Some(reason),
    }
}

fn finish(cell: &mut Cell, rules: &BreakerRules, outcome: Outcome, now: MonoTime) {
    let ticket = ticket(cell.admit(rules, now).value);
    cell.record(rules, ticket, ended(outcome), now);
}

fn opened(rules: &BreakerRules, now: MonoTime) -> Cell {
    let mut cell = Cell::closed(rules);
    while cell.state() == BreakerState::Closed {
        finish(&mut cell, rules, Outcome::Failure, now);
    }
    cell
}

/// Length of the opening that `cell` is in at `now`.
fn rest(cell: &Cell, rules: &BreakerRules, now: MonoTime) -> Duration {
    match cell.clone().admit(rules, now).value {
        Admission::Refused { retry_after, .. } => retry_after,
        Admission::Admitted(_) => panic!("admitted while open"),
    }
}

#[test]
fn opens_after_so_many_failures_in_a_row_and_a_success_ends_the_row() {
    let rules = three_in_a_row();
    let mut cell = Cell::closed(&rules);
    for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success] {
        finish(&mut cell, &rules, outcome, at(0));
    }
    for _ in 0..2 {
        finish(&mut cell, &rules, Outcome::Failure, at(1));
    }
    assert_eq!(cell.state(), BreakerState::Closed);
    let last = ticket(cell.admit(&rules, at(2)).value);
    let step = cell.record(&rules, last, ended(Outcome::Failure), at(2));
    assert_eq!(step.transition, Some(Transition::Opened));
    let refused = cell.admit(&rules, at(3)).value;
    assert_eq!(reason(refused), Some(RefusalReason::BreakerOpen));
}

#[test]
fn by_default_half_of_twenty_requests_in_ten_seconds_open_it() {
    let rules = BreakerRules::default_for(None);
    let mut cell = Cell::closed(&rules);
    cell.record_successes(&rules, 0, 10, at(0));
    for _ in 0..9 {
        finish(&mut cell, &rules, Outcome::Failure, at(500));
    }
    assert_eq!(cell.state(), BreakerState::Closed, "19 are too few");
    let mut late = cell;
    finish(&mut late, &rules, Outcome::Failure, at(10_000));
    assert_eq!(
        late.state(),
        BreakerState::Closed,
        "the first second is forgotten"
    );
    finish(&mut cell, &rules, Outcome::Failure, at(9_000));
    assert_eq!(cell.state(), BreakerState::Open);
}

#[test]
fn after_its_time_it_lets_the_probes_through_and_closes_when_all_succeed() {
    let rules = three_in_a_row();
    let mut cell = opened(&rules, at(0));
    let later = at(0).saturating_add(rest(&cell, &rules, at(0)));
    let step = cell.admit(&rules, later);
    assert_eq!(step.transition, Some(Transition::HalfOpened));
    let first = ticket(step.value);
    let second = ticket(cell.admit(&rules, later).value);
    let third = cell.admit(&rules, later).value;
    assert_eq!(reason(third), Some(RefusalReason::BreakerHalfOpen));
    cell.record(&rules, first, ended(Outcome::Success), later);
    assert_eq!(cell.state(), BreakerState::HalfOpen, "all must succeed");
    assert_eq!(
        reason(cell.admit(&rules, later).value),
        Some(RefusalReason::BreakerHalfOpen),
        "an answered probe is not admitted again"
    );
    let step = cell.record(&rules, second, ended(Outcome::Success), later);
    assert_eq!(step.transition, Some(Transition::Closed));
}

#[test]
fn one_failed_probe_reopens_for_twice_the_time_up_to_ten_times() {
    let rules = three_in_a_row();
    let mut now = at(0);
    let mut cell = opened(&rules, now);
    for factor in [1, 2, 4, 8, 10, 10] {
        let open_for = rest(&cell, &rules, now);
        assert!(open_for >= OPEN_FOR * factor, "{open_for:?} {factor}");
        assert!(
            open_for <= OPEN_FOR * factor * 6 / 5,
            "{open_for:?} {factor}"
        );
        now = now.saturating_add(open_for);
        finish(&mut cell, &rules, Outcome::Failure, now);
        assert_eq!(cell.state(), BreakerState::Open);
    }
}

#[test]
fn a_closed_minute_makes_openings_short_again() {
    let rules = three_in_a_row();
    let mut cell = opened(&rules, at(0));
    let mut now = at(0).saturating_add(rest(&cell, &rules, at(0)));
    for _ in 0..2 {
        finish(&mut cell, &rules, Outcome::Success, now);
    }
    assert_eq!(cell.state(), BreakerState::Closed);
    let mut soon = cell;
    for _ in 0..3 {
        finish(&mut soon, &rules, Outcome::Failure, now);
    }
    assert!(rest(&soon, &rules, now) >= OPEN_FOR * 2);
    now = now.saturating_add(Duration::from_secs(60));
    for _ in 0..3 {
        finish(&mut cell, &rules, Outcome::Failure, now);
    }
    assert!(rest(&cell, &rules, now) < OPEN_FOR * 2);
}

#[test]
fn a_probe_without_an_answer_counts_as_failed_after_its_lease() {
    let rules = three_in_a_row();
    let mut cell = opened(&rules, at(0));
    let later = at(0).saturating_add(rest(&cell, &rules, at(0)));
    let lost = ticket(cell.admit(&rules, later).value);
    let too_late = later.saturating_add(rules.lease);
    let step = cell.admit(&rules, too_late);
    assert_eq!(step.transition, Some(Transition::Reopened));
    assert_eq!(reason(step.value), Some(RefusalReason::BreakerOpen));
    assert!(
        !cell
            .record(&rules, lost, ended(Outcome::Success), too_late)
            .changed
    );
}

#[test]
fn a_client_that_leaves_gives_its_probe_back() {
    let rules = three_in_a_row();
    let mut cell = opened(&rules, at(0));
    let later = at(0).saturating_add(rest(&cell, &rules, at(0)));
    for _ in 0..20 {
        finish(&mut cell, &rules, Outcome::Ignored, later);
        assert_eq!(cell.state(), BreakerState::HalfOpen);
    }
}

#[test]
fn results_of_requests_admitted_before_an_opening_neither_close_nor_reopen_it() {
    let rules = three_in_a_row();
    let mut cell = Cell::closed(&rules);
    let old = ticket(cell.admit(&rules, at(0)).value);
    for _ in 0..3 {
        finish(&mut cell, &rules, Outcome::Failure, at(0));
    }
    let later = at(0).saturating_add(rest(&cell, &rules, at(0)));
    let _probe = cell.admit(&rules, later);
    for outcome in [Outcome::Success, Outcome::Failure] {
        assert!(!cell.record(&rules, old, ended(outcome), later).changed);
    }
    assert_eq!(cell.state(), BreakerState::HalfOpen);
}

#[test]
fn changed_rules_keep_the_state_and_count_anew() {
    let rules = three_in_a_row();
    let four = BreakerRules {
        consecutive_failures: Some(4),
        ..rules.clone()
    };
    let mut cell = Cell::closed(&rules);
    for _ in 0..2 {
        finish(&mut cell, &rules, Outcome::Failure, at(0));
    }
    let mut cell = Cell::decode(&cell.encode(), &four);
    finish(&mut cell, &four, Outcome::Failure, at(0));
    assert_eq!(cell.state(), BreakerState::Closed);
    let open = Cell::decode(&opened(&rules, at(0)).encode(), &four);
    assert_eq!(open.state(), BreakerState::Open);
}

fn latch(canary: u64, engages: bool) -> Option<Latch> {
    Some(Latch { canary, engages })
}

#[test]
fn a_latched_canary_stays_open_until_the_canary_changes() {
    let canary = BreakerRules {
        latch: latch(7, true),
        ..three_in_a_row()
    };
    let cell = opened(&canary, at(0));
    let much_later = at(1_000_000_000);
    let refused = cell.clone().admit(&canary, much_later).value;
    assert_eq!(reason(refused), Some(RefusalReason::Latched));
    let heavy = BreakerRules {
        latch: latch(7, false),
        ..canary.clone()
    };
    let still = Cell::decode(&cell.encode(), &heavy);
    assert_eq!(still.state(), BreakerState::Open, "it latched before");
    let refused = still.clone().admit(&heavy, much_later).value;
    assert_eq!(reason(refused), Some(RefusalReason::Latched));
    let opened_heavy = opened(&heavy, at(0));
    let probe = opened_heavy.clone().admit(&heavy, much_later).value;
    assert_eq!(reason(probe), None, "it comes back itself");
    let changed = BreakerRules {
        latch: latch(8, true),
        ..canary
    };
    let cell = Cell::decode(&cell.encode(), &changed);
    assert_eq!(cell.state(), BreakerState::Closed);
}

#[test]
fn one_breaker_of_a_canary_that_latches_latches_the_others() {
    let rules = BreakerRules {
        latch: latch(7, true),
        ..three_in_a_row()
    };
    let mut other = Cell::closed(&rules);
    let before = ticket(other.admit(&rules, at(0)).value);
    let step = other.latch(&rules, at(1));
    assert_eq!(
        (step.changed, step.transition),
        (true, Some(Transition::Opened))
    );
    let long_after = other.admit(&rules, at(3_600_000)).value;
    assert_eq!(reason(long_after), Some(RefusalReason::Latched));
    assert!(!other.latch(&rules, at(2)).changed, "once is enough");
    let late = Completion {
        outcome: Outcome::Success,
        slow: false,
    };
    assert!(!other.record(&rules, before, late, at(3)).changed);

    // One that was open already stays so for good; a stable version's breaker never latches.
    let mut open = opened(&three_in_a_row(), at(0));
    assert_eq!(open.latch(&rules, at(1)).transition, None);
    assert!(open.is_latched());
    assert!(
        !Cell::closed(&three_in_a_row())
            .latch(&three_in_a_row(), at(1))
            .changed
    );
}

#[test]
fn too_many_slow_calls_open_it_and_a_slow_probe_keeps_it_open() {
    let slow_calls = SlowCalls::new(
        Duration::from_secs(1),
        BasisPoints::from_percent(60.0).unwrap(),
    );
    let rules = BreakerRules {
        error_rate: None,
        slow_calls: Some(slow_calls),
        ..BreakerRules::default_for(None)
    };
    let after = |millis| Some(Duration::from_millis(millis));
    let call = |cell: &mut Cell, time, now| {
        let ticket = ticket(cell.admit(&rules, now).value);
        cell.record(
            &rules,
            ticket,
            Completion::new(Outcome::Success, time, &rules),
            now,
        )
    };
    let mut cell = Cell::closed(&rules);
    cell.record_successes(&rules, 0, 8, at(0));
    for _ in 0..11 {
        call(&mut cell, after(1_001), at(0));
    }
    // In time, and a stream whose length says nothing.
    call(&mut cell, after(1_000), at(0));
    call(&mut cell, None, at(0));
    assert_eq!(
        cell.state(),
        BreakerState::Closed,
        "11 of 21 are less than 60 %"
    );
    for _ in 0..4 {
        call(&mut cell, after(5_000), at(1));
    }
    assert_eq!(cell.state(), BreakerState::Open, "15 of 25 are 60 %");
    let later = at(1).saturating_add(rest(&cell, &rules, at(1)));
    let step = call(&mut cell, after(1_001), later);
    assert_eq!(step.transition, Some(Transition::Reopened));
}

/// What may happen to a breaker between two moments.
#[derive(Debug, Clone, Copy)]
enum Event {
    Admit,
    /// Answers one of the requests under way.
    Answer(prop::sample::Index, Outcome),
    /// Answers a request that was answered already.
    AnswerAgain(prop::sample::Index, Outcome),
    Wait(u64),
    Batch(u32),
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Failure),
        3 => Just(Outcome::Success),
        1 => Just(Outcome::Ignored),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Admit),
        6 => (any::<prop::sample::Index>(), outcomes()).prop_map(|(i, o)| Event::Answer(i, o)),
        1 => (any::<prop::sample::Index>(), outcomes()).prop_map(|(i, o)| Event::AnswerAgain(i, o)),
        3 => (0_u64..7_000).prop_map(Event::Wait),
        1 => (1_u32..5).prop_map(Event::Batch),
    ]
}

/// And says nothing unless it is closed.
fn a_glance_says_what_the_cell_does(
    bytes: &[u8],
    rules: &BreakerRules,
    now: MonoTime,
) -> Result<(), TestCaseError> {
    let mut cell = Cell::decode(bytes, rules);
    let glance = Glance::at(bytes, rules);
    prop_assert_eq!(glance.is_some(), cell.state() == BreakerState::Closed);
    if let Some(glance) = glance {
        prop_assert_eq!(glance.success_may_wait, cell.success_may_wait());
        let step = cell.admit(rules, now);
        prop_assert_eq!(step.value, Admission::Admitted(glance.ticket));
        prop_assert!(!step.changed);
    }
    Ok(())
}

/// What an onlooker who sees only answers can say about one half-open spell.
#[derive(Debug, Default)]
struct Spell {
    out: usize,
    succeeded: usize,
}

proptest! {
    #[test]
    fn never_more_probes_than_configured_and_never_closed_without_all_of_them(
        probes in 1_u8..=32,
        in_a_row in 1_u32..4,
        events in prop::collection::vec(events(), 1..400),
    ) {
        let rules = BreakerRules {
            half_open_probes: probes,
            consecutive_failures: Some(in_a_row),
            ..BreakerRules::default_for(None)
        };
        let mut cell = Cell::closed(&rules);
        let mut now = at(0);
        let mut under_way: Vec<Ticket> = Vec::new();
        let mut answered: Vec<Ticket> = Vec::new();
        let mut spell = Spell::default();
        let mut open_since = None;
        for event in events {
            // Every worker reads the shared bytes, so every step passes through them.
            let bytes = cell.encode();
            cell = Cell::decode(&bytes, &rules);
            a_glance_says_what_the_cell_does(&bytes, &rules, now)?;
            let before = cell.state();
            let mut transition = None;
            match event {
                Event::Wait(millis) => now = now.saturating_add(Duration::from_millis(millis)),
                Event::Batch(count) => {
                    let generation = cell.generation();
                    transition = cell.record_successes(&rules, generation, count, now).transition;
                    prop_assert_eq!(transition, None);
                }
                Event::Admit => {
                    let step = cell.admit(&rules, now);
                    transition = step.transition;
                    if transition == Some(Transition::HalfOpened) {
                        spell = Spell::default();
                        let since = open_since.unwrap_or(now);
                        prop_assert!(now.saturating_since(since) >= rules.open_for);
                    }
                    if let Admission::Admitted(ticket) = step.value {
                        prop_assert_ne!(cell.state(), BreakerState::Open);
                        if ticket.is_probe() {
                            spell.out += 1;
                            prop_assert!(spell.out + spell.succeeded <= usize::from(probes));
                        }
                        under_way.push(ticket);
                    }
                }
                Event::Answer(index, outcome) if !under_way.is_empty() => {
                    let ticket = under_way.swap_remove(index.index(under_way.len()));
                    let ours = ticket.generation() == cell.generation();
                    transition = cell.record(&rules, ticket, ended(outcome), now).transition;
                    prop_assert!(ours || transition.is_none());
                    if ours && ticket.is_probe() {
                        spell.out -= 1;
                        spell.succeeded += usize::from(outcome == Outcome::Success);
                    }
                    answered.push(ticket);
                }
                // A probe's slot may be another's by now; of all others a second answer is void
                // once their generation is over.
                Event::AnswerAgain(index, outcome) if !answered.is_empty() => {
                    let ticket = answered[index.index(answered.len())];
                    if ticket.generation() != cell.generation() {
                        prop_assert!(!cell.record(&rules, ticket, ended(outcome), now).changed);
                    }
                }
                Event::Answer(..) | Event::AnswerAgain(..) => {}
            }
            match transition {
                Some(Transition::Closed) => {
                    prop_assert_eq!(before, BreakerState::HalfOpen);
                    prop_assert_eq!(spell.succeeded, usize::from(probes));
                }
                Some(Transition::Opened | Transition::Reopened) => open_since = Some(now),
                Some(Transition::HalfOpened) | None => {}
            }
        }
    }

    #[test]
    fn any_bytes_are_a_breaker_that_works(bytes in prop::collection::vec(any::<u8>(), CELL_BYTES)) {
        let rules = BreakerRules::default_for(None);
        for first in [bytes.first().copied().unwrap_or(0), 1] {
            let mut bytes = bytes.clone();
            bytes[0] = first;
            bytes[1] %= 3;
            let mut cell = Cell::decode(&bytes, &rules);
            if let Some(glance) = Glance::at(&bytes, &rules) {
                let admitted = Admission::Admitted(glance.ticket);
                prop_assert_eq!(cell.clone().admit(&rules, at(1)).value, admitted);
            }
            let again = Cell::decode(&cell.encode(), &rules);
            prop_assert_eq!(cell, again);
            let step = cell.admit(&rules, at(1));
            if let Admission::Admitted(ticket) = step.value {
                cell.record(&rules, ticket, ended(Outcome::Failure), at(2));
            }
        }
        prop_assert_eq!(Cell::decode(&bytes[1..], &rules), Cell::closed(&rules));
    }
}
