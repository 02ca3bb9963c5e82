use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    breaker::BreakerPlan,
    reader::Problems,
    time::parse_instant,
    timetable::{DaySet, Minute},
};

/// What was read, and the problems as texts.
fn read<T>(value: &Value, read: impl FnOnce(Reader<'_>) -> T) -> (T, Vec<String>) {
    let problems = Problems::new();
    let result = read(Reader::root(value, &problems));
    (
        result,
        problems
            .into_vec()
            .iter()
            .map(ToString::to_string)
            .collect(),
    )
}

#[test]
fn windows_take_whole_hours_and_texts() {
    let (windows, problems) = read(
        &json!({
            "night": {"start": "22:30", "end": 6.0, "days": ["fri", "sat"], "dates": ["2026-11-08", {"start": "2026-12-01", "end": "2026-12-31"}]},
            "day": {"start": 7, "end": 24, "zone": "mumbai-west", "multiplier": 1.5},
        }),
        read_peak_hours,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let [day, night] = windows.as_slice() else {
        panic!("{windows:?}");
    };
    assert_eq!(
        (day.name().as_str(), day.end()),
        ("day", Minute::END_OF_DAY)
    );
    assert_eq!(day.multiplier().percent(), 150);
    assert_eq!(day.days(), DaySet::ALL);
    assert_eq!(night.end().get(), 360);
    assert_eq!(night.dates().len(), 2);
    assert_eq!(night.days().names().collect::<Vec<_>>(), ["fri", "sat"]);
}

#[test]
fn every_problem_of_the_calendar_is_told() {
    let (_, problems) = read(
        &json!({
            "a": {"start": "07:00", "end": "07:00"},
            "b": {"start": "25:00", "multiplier": 0, "except": ["holidays"]},
            "c": {"start": 7, "end": 8, "days": ["mon", "funday"], "dates": [], "strat": 1},
            "d": {"start": 7, "end": 8, "monthly": [0, "last-business-day", "last"]},
            "e": {"start": 7, "end": 8, "monthly": []},
        }),
        read_peak_hours,
    );
    let expected = [
        ("a: ", "(00:00-24:00 for all day)"),
        ("b.start: \"25:00\"", "00:00 to 24:00"),
        ("b.end: must be given", ""),
        ("b.multiplier: must be 0.01 to 100", ""),
        ("b.except: must be a text, not a list", ""),
        ("c.days[1]: \"funday\"", "mon, tue"),
        ("c.dates: must name a date", "leave it out"),
        ("c.strat: unknown field", "did you mean \"start\"?"),
        (
            "d.monthly[0]: must be a whole number from 1 to 31, not 0",
            "",
        ),
        ("d.monthly[2]: \"last\"", "last-business-day"),
        ("e.monthly: must name a day of the month", "leave it out"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (start, part)) in problems.iter().zip(expected) {
        assert!(
            problem.starts_with(start) && problem.contains(part),
            "{problem}"
        );
    }
}

#[test]
fn festivals_are_dates_or_ranges() {
    let (festivals, problems) = read(
        &json!([
            "2026-11-08",
            {"name": "Diwali", "date": "2026-11-08", "factor": 2, "source": "almanac"},
            {"name": "Navratri", "start": "2026-10-11", "end": "2026-10-20"},
        ]),
        read_festivals,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let names: Vec<&str> = festivals
        .iter()
        .map(|festival| festival.name.as_str())
        .collect();
    assert_eq!(names, ["festival", "Diwali", "Navratri"]);
    assert_eq!(festivals[1].factor.percent(), 200);

    let (_, problems) = read(
        &json!([
            {"name": "A", "date": "2026-11-08", "start": "2026-11-08"},
            {"name": "B"},
            {"name": "C", "start": "2026-11-08", "end": "2026-11-07"},
            "8 November",
            7,
        ]),
        read_festivals,
    );
    assert_eq!(problems.len(), 5, "{problems:#?}");
}

#[test]
fn the_environments_windows_are_numbered() {
    let windows = parse_peak_hours_env("7-11, 17:30-22").unwrap();
    let shown: Vec<String> = windows
        .iter()
        .map(|window| format!("{} {}-{}", window.name(), window.start(), window.end()))
        .collect();
    assert_eq!(shown, ["peak-1 07:00-11:00", "peak-2 17:30-22:00"]);
    assert!(parse_peak_hours_env(" ").unwrap().is_empty());
    for wrong in ["7", "7-7", "7-25", "7-11,", "a-b", "-"] {
        let problem = parse_peak_hours_env(wrong).unwrap_err().to_string();
        assert!(problem.starts_with("PEAK_HOURS: "), "{problem}");
        assert!(problem.contains("7-11,17-22"), "{problem}");
    }
}

#[test]
fn a_breaker_that_names_a_rule_has_only_that_rule() {
    let breaker = |value: Value| read(&value, |reader| read_circuit_breaker(reader, None)).0;
    assert_eq!(breaker(json!({})), BreakerPlan::default_for(None));
    let consecutive =
        breaker(json!({"mode": "enforce", "consecutive_failures": 5, "open_for": "20s"}));
    assert_eq!(consecutive.rules.consecutive_failures, Some(5));
    assert_eq!(consecutive.rules.error_rate, None);
    assert_eq!(consecutive.rules.lease, Duration::from_secs(20));
    let rate = breaker(json!({"error_rate": {"percent": 33.3}}))
        .rules
        .error_rate
        .unwrap();
    assert_eq!(rate.percent.get(), 3330);
    assert_eq!(rate.minimum_requests, 20);
}

#[test]
fn a_breakers_problems_name_the_legal_range() {
    let (_, problems) = read(
        &json!({
            "mode": "dry",
            "consecutive_failures": 0,
            "error_rate": {"percent": 101, "window": "1d"},
            "open_for": 5,
            "half_open_probes": 33,
            "max_connections": 1,
        }),
        |reader| read_circuit_breaker(reader, None),
    );
    let expected = [
        ("mode: ", "enforce or observe"),
        ("consecutive_failures: ", "from 1 to 1000000"),
        ("error_rate.percent: ", "0.01 to 100 percent"),
        ("error_rate.window: ", "such as 250ms"),
        ("open_for: ", "must be a text, not the number 5"),
        ("half_open_probes: ", "from 1 to 32"),
        ("max_connections: ", "unknown field"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (start, part)) in problems.iter().zip(expected) {
        assert!(
            problem.starts_with(start) && problem.contains(part),
            "{problem}"
        );
    }
}

#[test]
fn a_canary_needs_version_and_weight() {
    let (canary, problems) = read(
        &json!({"version": "v2", "weight": 10, "sticky_by": {"header": "X-User-Id"}}),
        read_canary,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let canary = canary.unwrap();
    assert_eq!(canary.weight.highest().get(), 1000);
    assert_eq!(canary.weight.ramp(), None);
    assert_eq!(canary.sticky_by.unwrap().as_str(), "x-user-id");

    let (_, problems) = read(
        &json!({"version": "stable", "wieght": 5, "sticky_by": {"header": "x-mumbai-class"}}),
        read_canary,
    );
    let expected = [
        ("version: ", "reserved"),
        ("weight: ", "must be given"),
        ("sticky_by.header: ", "removed from requests"),
        ("wieght: ", "did you mean \"weight\"?"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (start, part)) in problems.iter().zip(expected) {
        assert!(
            problem.starts_with(start) && problem.contains(part),
            "{problem}"
        );
    }
}

#[test]
fn a_ramp_takes_the_place_of_a_weight() {
    let (canary, problems) = read(
        &json!({
            "version": "v2",
            "ramp": {"start": "2026-11-25T09:00+05:30", "steps": [5, 5, 12.5, 100], "every": "30m"},
            "freeze_during": ["peak", "festival", "evening"],
        }),
        read_canary,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let canary = canary.unwrap();
    let ramp = canary.weight.ramp().unwrap();
    assert_eq!(ramp.start(), parse_instant("2026-11-25T03:30:00Z").unwrap());
    let steps: Vec<u16> = ramp.steps().iter().map(|step| step.get()).collect();
    assert_eq!(steps, [500, 500, 1_250, 10_000]);
    assert_eq!(ramp.every(), Duration::from_secs(1_800));
    assert_eq!(canary.weight.highest().get(), 10_000);
    assert_eq!(canary.freeze_during.times().len(), 3);
}

#[test]
fn what_is_wrong_with_a_ramp_is_told_with_the_fix() {
    let ramp = |ramp: Value| {
        let mut canary = json!({"version": "v2", "ramp": ramp});
        if canary["ramp"] == json!("beside a weight") {
            canary["ramp"] = json!({"start": "2026-11-25T09:00Z", "steps": [5], "every": "1h"});
            canary["weight"] = json!(10);
        }
        read(&canary, read_canary).1
    };
    let good = |field: &str, value: Value| {
        let mut ramp = json!({"start": "2026-11-25T09:00Z", "steps": [5, 10], "every": "1h"});
        ramp[field] = value;
        ramp
    };
    let many = Value::from(vec![1; 101]);
    for (wrong, words) in [
        (
            json!("beside a weight"),
            &["ramp: must not stand beside weight"][..],
        ),
        (
            json!({}),
            &[
                "ramp.start: must be given",
                "ramp.steps: must be given",
                "ramp.every: must be given",
            ],
        ),
        (
            good("start", json!("tomorrow")),
            &["ramp.start: \"tomorrow\" is not legal"],
        ),
        (
            good("start", json!("2026-11-25T09:00")),
            &["RFC 3339 time with an offset"],
        ),
        (
            good("steps", json!([])),
            &["ramp.steps: must be 1 to 100 steps, not 0"],
        ),
        (good("steps", many), &["not 101"]),
        (
            good("steps", json!([5, 101])),
            &["ramp.steps[1]: must be 0 to 100 percent"],
        ),
        (
            good("steps", json!([25, 10])),
            &["ramp.steps: must be steps that do not fall, not 25 %, then 10 %"],
        ),
        (
            good("every", json!("10ms")),
            &["ramp.every: must be from 1s to 168h, not 10ms"],
        ),
        (good("evry", json!("1h")), &["did you mean \"every\"?"]),
    ] {
        let problems = ramp(wrong);
        assert_eq!(problems.len(), words.len(), "{problems:#?}");
        for (problem, words) in problems.iter().zip(words) {
            assert!(problem.contains(words), "{words} in {problem}");
        }
    }
    let (_, problems) = read(
        &json!({"version": "v2", "weight": 1, "freeze_during": []}),
        read_canary,
    );
    assert!(
        problems[0].starts_with("freeze_during: must name a time"),
        "{problems:?}"
    );
}
