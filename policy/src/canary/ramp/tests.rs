//! Ramps against a simulation that lets their clocks tick second by second.

use proptest::prelude::*;

use super::*;
use crate::{
    time::{CivilZone, parse_instant},
    timetable::{DateRange, DaySet, Festival, FreezeWhen, Holiday, Minute, MonthDays, Window},
    units::{DisplayName, Multiplier},
};

const SECOND: i64 = 1000;

fn instant(text: &str) -> WallTime {
    parse_instant(text).unwrap()
}

fn points(percents: &[u32]) -> Vec<BasisPoints> {
    let points = percents
        .iter()
        .map(|percent| BasisPoints::new(percent * 100));
    points.collect::<Result<_, _>>().unwrap()
}

fn ramp(start: &str, percents: &[u32], every: Duration) -> Ramp {
    Ramp::new(instant(start), points(percents), every).unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

fn name(text: &str) -> DisplayName {
    DisplayName::new(text).unwrap()
}

fn window(called: &str, start: &str, end: &str) -> Window {
    let minute = |text: &str| Minute::parse(text).unwrap();
    Window::new(name(called), minute(start), minute(end)).unwrap()
}

fn festival(called: &str, first: jiff::civil::Date, days: i64) -> Festival {
    let last = first.saturating_add(jiff::ToSpan::days(days - 1));
    Festival {
        name: name(called),
        dates: DateRange::new(first, last).unwrap(),
        factor: Multiplier::ONE,
        holiday: false,
        source: None,
    }
}

fn mumbai(windows: Vec<Window>, festivals: Vec<Festival>) -> Timetable {
    let zone = CivilZone::new("Asia/Kolkata", "IST-5:30").unwrap();
    Timetable::new(zone, windows, festivals)
}

fn npci() -> Timetable {
    let diwali = jiff::civil::date(2026, 11, 8);
    mumbai(
        vec![
            window("forenoon", "10:00", "13:00"),
            window("evening", "17:00", "21:30"),
        ],
        vec![festival("Diwali", diwali, 2)],
    )
}

fn freeze(words: &[&str]) -> Freeze {
    let time = |word: &&str| match *word {
        "peak" => FreezeWhen::Peak,
        "festival" => FreezeWhen::Festival,
        other => FreezeWhen::Named(name(other)),
    };
    Freeze::new(words.iter().map(time).collect())
}

fn told(schedule: &Schedule, timetable: &Timetable) -> Vec<String> {
    let step = |step: &Step| format!("{} {}", timetable.zone().rfc3339(step.from), step.weight);
    schedule.steps().iter().map(step).collect()
}

#[test]
fn without_a_freeze_a_step_comes_every_so_often() {
    let ramp = ramp(
        "2026-11-25T09:00+05:30",
        &[5, 10, 100],
        Duration::from_secs(1800),
    );
    let schedule = ramp.schedule(&Freeze::default(), &npci());
    assert_eq!(
        told(&schedule, &npci()),
        [
            "2026-11-25T09:00:00+05:30 5 %",
            "2026-11-25T09:30:00+05:30 10 %",
            "2026-11-25T10:00:00+05:30 100 %",
        ]
    );
    let at = |text: &str| schedule.at(instant(text)).percent();
    assert_eq!(at("2026-11-25T08:59:59.999+05:30"), 0.0);
    assert_eq!(at("2026-11-25T09:00+05:30"), 5.0);
    assert_eq!(at("2026-11-25T09:59:59.999+05:30"), 10.0);
    assert_eq!(at("2999-01-01T00:00Z"), 100.0);
}

#[test]
fn peaks_and_festivals_stop_the_clock() {
    // A start within a window waits for its end; a step due as a window begins, likewise.
    let ramp = ramp("2026-11-06T12:00+05:30", &[5, 10, 25, 50, 100], hours(4));
    let schedule = ramp.schedule(&freeze(&["peak", "festival"]), &npci());
    assert_eq!(
        told(&schedule, &npci()),
        [
            "2026-11-06T13:00:00+05:30 5 %",
            // 13:00 to 17:00 are four hours; the window that begins then is waited for.
            "2026-11-06T21:30:00+05:30 10 %",
            "2026-11-07T01:30:00+05:30 25 %",
            "2026-11-07T05:30:00+05:30 50 %",
            "2026-11-07T09:30:00+05:30 100 %",
        ]
    );
    // By name: the other window and the festival do not count.
    let by_name = ramp.schedule(&freeze(&["evening"]), &npci());
    assert_eq!(
        told(&by_name, &npci())[..2],
        [
            "2026-11-06T12:00:00+05:30 5 %",
            "2026-11-06T16:00:00+05:30 10 %"
        ]
    );
    let festival = ramp.schedule(&freeze(&["Diwali"]), &npci());
    assert_eq!(festival.steps().len(), 5);
    let over_diwali = Ramp::new(
        instant("2026-11-07T22:00+05:30"),
        points(&[5, 10]),
        hours(4),
    );
    let over_diwali = over_diwali.unwrap().schedule(&freeze(&["Diwali"]), &npci());
    assert_eq!(
        told(&over_diwali, &npci()),
        [
            "2026-11-07T22:00:00+05:30 5 %",
            "2026-11-10T02:00:00+05:30 10 %"
        ]
    );
}

#[test]
fn every_window_that_holds_freezes_not_only_the_strongest() {
    let strong =
        window("strong", "09:00", "18:00").with_multiplier(Multiplier::from_f64(2.0).unwrap());
    let timetable = mumbai(vec![strong, window("weak", "10:00", "11:00")], Vec::new());
    let ramp = ramp("2026-11-25T09:30+05:30", &[5, 10], hours(1));
    let schedule = ramp.schedule(&freeze(&["weak"]), &timetable);
    assert_eq!(
        told(&schedule, &timetable),
        [
            "2026-11-25T09:30:00+05:30 5 %",
            "2026-11-25T11:30:00+05:30 10 %"
        ]
    );
    let within = instant("2026-11-25T10:30+05:30");
    let by = timetable.frozen_by(&freeze(&["weak"]), within);
    assert_eq!(by, [&name("weak")]);
}

#[test]
fn a_calendar_that_never_lets_go_stops_a_ramp_for_good() {
    let always = mumbai(
        vec![
            window("day", "00:00", "12:00"),
            window("night", "12:00", "24:00"),
        ],
        Vec::new(),
    );
    let begins = ramp("2026-11-25T09:30+05:30", &[5, 10], hours(1));
    let schedule = begins.schedule(&freeze(&["peak"]), &always);
    assert!(schedule.steps().is_empty() && !schedule.is_complete());
    assert_eq!(
        schedule.at(instant("2027-11-25T09:30+05:30")),
        BasisPoints::ZERO
    );
    // A minute a day: four years of them are a day, and a hundred steps take a hundred weeks.
    let nearly = mumbai(vec![window("day", "00:01", "24:00")], Vec::new());
    let slow = Ramp::new(
        instant("2026-11-25T09:30+05:30"),
        points(&[1; 100]),
        hours(20),
    );
    let schedule = slow.unwrap().schedule(&freeze(&["peak"]), &nearly);
    assert!(!schedule.is_complete());
    assert_eq!(
        told(&schedule, &nearly),
        [
            "2026-11-26T00:00:00+05:30 1 %",
            // 1,200 minutes of 1,200 days.
            "2030-03-10T00:00:00+05:30 1 %",
        ]
    );
}

/// Reference: one clock that ticks each second unless the calendar freezes it.
fn simulated(
    ramp: &Ramp,
    freeze: &Freeze,
    timetable: &Timetable,
    from: WallTime,
    seconds: i64,
) -> Vec<BasisPoints> {
    let every = i64::try_from(ramp.every().as_secs()).unwrap();
    let (mut ticked, mut taken) = (0_i64, 0_usize);
    let mut weights = Vec::new();
    for second in 0..seconds {
        let wall = WallTime::from_unix_millis(from.unix_millis() + second * SECOND);
        if wall >= ramp.start() && timetable.frozen_by(freeze, wall).is_empty() {
            let due = usize::try_from(ticked / every).unwrap() + 1;
            taken = taken.max(due.min(ramp.steps().len()));
            ticked += 1;
        }
        let weight = taken.checked_sub(1).map(|last| ramp.steps()[last]);
        weights.push(weight.unwrap_or(BasisPoints::ZERO));
    }
    weights
}

prop_compose! {
    fn any_window()(
        called in "[ab]",
        (start, end) in (0_u16..1440, 0_u16..=1440).prop_filter("differ", |(start, end)| start != end),
        days in prop_oneof![Just(0b111_1111_u8), 1_u8..128],
        monthly in prop_oneof![Just(0_u8), 1_u8..=31, Just(32)],
        except_holidays: bool,
    ) -> Window {
        let minute = |minute: u16| Minute::new(minute / 60, minute % 60).unwrap();
        let days = (0..7_i8)
            .filter(|day| days & (1 << day) != 0)
            .fold(DaySet::NONE, |set, day| {
                set.with(jiff::civil::Weekday::from_monday_zero_offset(day).unwrap())
            });
        Window::new(name(&called), minute(start), minute(end))
            .unwrap()
            .with_days(days)
            .with_monthly(match monthly {
                0 => MonthDays::ANY,
                32 => MonthDays::ANY.with_last_business_day(),
                number => MonthDays::ANY.with(number),
            })
            .with_except_holidays(except_holidays)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_ramp_steps_as_a_ticking_clock_would(
        // The clocks of New York change on 1 November 2026 at 02:00; those of Santiago at midnight.
        zone in prop_oneof![
            Just("IST-5:30"), Just("EST5EDT,M3.2.0,M11.1.0"), Just("<-04>4<-03>,M9.1.6/24,M4.1.6/24"),
        ],
        windows in proptest::collection::vec(any_window(), 0..4),
        festival_day in 30_i8..=31,
        holiday in any::<bool>(),
        start_minute in 0_i64..2 * 1440,
        start_second in 0_i64..60,
        every in 1_u64..30_000,
        steps in proptest::collection::vec(0_u32..=100, 1..8),
        frozen in proptest::sample::subsequence(vec!["peak", "festival", "a", "b", "F"], 0..=5),
    ) {
        let date = jiff::civil::date(2026, 10, festival_day);
        let mut festival = festival("F", date, 2);
        festival.holiday = holiday;
        let zone = CivilZone::new("Any", zone).unwrap();
        let timetable = Timetable::new(zone, windows, vec![festival]).with_holidays(vec![Holiday {
            name: name("H"),
            dates: DateRange::day(jiff::civil::date(2026, 11, 2)),
            source: None,
        }]);
        let mut steps = steps;
        steps.sort_unstable();
        let from = instant("2026-10-30T12:00Z");
        let into = (start_minute * 60 + start_second) * SECOND;
        let start = WallTime::from_unix_millis(from.unix_millis() + into);
        let ramp = Ramp::new(start, points(&steps), Duration::from_secs(every)).unwrap();
        let freeze = freeze(&frozen);
        let schedule = ramp.schedule(&freeze, &timetable);
        let slow = simulated(&ramp, &freeze, &timetable, from, 5 * 86_400);
        for (second, weight) in (0..).zip(slow) {
            let wall = WallTime::from_unix_millis(from.unix_millis() + second * SECOND);
            prop_assert_eq!(schedule.at(wall), weight, "at {}", timetable.zone().rfc3339(wall));
        }
    }
}
