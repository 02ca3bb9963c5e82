//! Calendars as people look ahead in them.

use super::*;
use crate::mesh::{Defaults, Mesh, read};
use policy::time::{WallTime, parse_instant};

fn mesh(text: &str) -> Mesh {
    read(text, &Defaults::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn instant(text: &str) -> WallTime {
    parse_instant(text).unwrap()
}

/// Time and sentence of what is ahead in a mesh.
fn ahead(text: &str, at: &str, count: usize) -> Vec<String> {
    let outlook = outlook(&mesh(text), instant(at), count);
    let line = |change: &Change| format!("{} {}", change.at, change.sentence);
    outlook.changes.iter().map(line).collect()
}

const PEAK: &str = "\
peak_hours:
  morning: {start: 10, end: 13}
  evening: {start: \"17:00\", end: \"21:30\", zone: mumbai-west}
festivals: [{name: Diwali, date: 2026-11-08, factor: 2}]
";

#[test]
fn edges_come_in_their_order_with_the_state_that_follows() {
    let outlook = outlook(&mesh(PEAK), instant("2026-11-07T18:00+05:30"), 5);
    assert_eq!(outlook.at, "2026-11-07T18:00:00+05:30");
    assert_eq!(outlook.timezone, "Asia/Kolkata");
    assert_eq!(
        outlook.now,
        Standing {
            traffic_state: "peak_hour",
            windows: vec!["evening".into()],
            festivals: Vec::new(),
        }
    );
    let told: Vec<_> = outlook
        .changes
        .iter()
        .map(|change| {
            (
                change.at.as_str(),
                change.in_.as_str(),
                change.traffic_state,
                change.sentence.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "2026-11-07T21:30:00+05:30",
                "3h 30m",
                "normal",
                "window evening ends for zone mumbai-west"
            ),
            (
                "2026-11-08T00:00:00+05:30",
                "6h",
                "festival",
                "festival Diwali begins, until 2026-11-09T00:00:00+05:30"
            ),
            (
                "2026-11-08T10:00:00+05:30",
                "16h",
                "festival",
                "window morning begins, until 2026-11-08T13:00:00+05:30"
            ),
            (
                "2026-11-08T13:00:00+05:30",
                "19h",
                "festival",
                "window morning ends"
            ),
            (
                "2026-11-08T17:00:00+05:30",
                "23h",
                "festival",
                "window evening begins for zone mumbai-west, until 2026-11-08T21:30:00+05:30"
            ),
        ]
    );
    assert!(outlook.more);
}

#[test]
fn what_changes_at_the_very_instant_is_no_longer_ahead() {
    assert_eq!(
        ahead(PEAK, "2026-11-10T10:00+05:30", 1),
        ["2026-11-10T13:00:00+05:30 window morning ends"]
    );
    assert_eq!(
        ahead(PEAK, "2026-11-10T09:59:59+05:30", 1),
        ["2026-11-10T10:00:00+05:30 window morning begins, until 2026-11-10T13:00:00+05:30"]
    );
}

#[test]
fn at_one_instant_ends_come_first() {
    let mesh = "peak_hours: {a: {start: 11, end: 12}, b: {start: 10, end: 11}}";
    assert_eq!(
        ahead(mesh, "2026-11-10T10:30+05:30", 2),
        [
            "2026-11-10T11:00:00+05:30 window b ends",
            "2026-11-10T11:00:00+05:30 window a begins, until 2026-11-10T12:00:00+05:30",
        ]
    );
}

#[test]
fn nothing_ahead_is_nothing() {
    let over = "festivals: [2024-08-19]";
    let outlook = outlook(&mesh(over), instant("2026-11-10T10:30+05:30"), 3);
    assert_eq!((outlook.changes.len(), outlook.more), (0, false));
    // A window of every hour never begins and never ends.
    let always = "peak_hours: {a: {start: 0, end: 24}}";
    assert_eq!(ahead(always, "2026-11-10T10:30+05:30", 3), [""; 0]);
}

fn ramping(canary: &str) -> String {
    format!(
        "\
peak_hours: {{noon: {{start: 10, end: 13}}}}
services:
  order-service:
    sidecar: false
    endpoints:
      - {{host: 127.0.0.1, port: 8081, version: v1}}
      - {{host: 127.0.0.1, port: 8082, version: v2}}
    canary: {{version: v2, {canary}}}
"
    )
}

/// Only what a canary does.
fn canary(text: &str, at: &str) -> Vec<String> {
    let told = ahead(text, at, 20).into_iter();
    told.filter(|line| line.contains("canary")).collect()
}

#[test]
fn a_ramp_steps_and_stands_still_while_it_has_steps_to_come() {
    let mesh = ramping(
        "freeze_during: [peak], ramp: {start: 2026-11-25T09:00+05:30, steps: [5, 25, 60], every: 1h}",
    );
    let all = [
        "2026-11-25T09:00:00+05:30 canary v2 of order-service takes 5 % (step 1 of 3)",
        "2026-11-25T10:00:00+05:30 canary v2 of order-service stands still at 5 % for noon",
        "2026-11-25T13:00:00+05:30 canary v2 of order-service stands still no longer",
        "2026-11-25T13:00:00+05:30 canary v2 of order-service takes 25 % (step 2 of 3)",
        "2026-11-25T14:00:00+05:30 canary v2 of order-service takes 60 % (step 3 of 3)",
    ];
    // Before its start, in a freeze, and at each time between: what is left of the same.
    for (at, told) in [
        ("2026-11-25T08:00+05:30", 0),
        ("2026-11-25T09:30+05:30", 1),
        ("2026-11-25T11:00+05:30", 2),
        ("2026-11-25T13:30+05:30", 4),
        ("2026-11-25T15:00+05:30", 5),
    ] {
        assert_eq!(canary(&mesh, at), all[told..], "{at}");
    }
}

#[test]
fn a_ramp_that_would_start_in_a_freeze_says_so() {
    let mesh = ramping(
        "freeze_during: [noon], ramp: {start: 2026-11-25T11:00+05:30, steps: [5], every: 1h}",
    );
    assert_eq!(
        canary(&mesh, "2026-11-25T08:00+05:30"),
        [
            "2026-11-25T11:00:00+05:30 canary v2 of order-service stands still at 0 % for noon",
            "2026-11-25T13:00:00+05:30 canary v2 of order-service stands still no longer",
            "2026-11-25T13:00:00+05:30 canary v2 of order-service takes 5 % (step 1 of 1)",
        ]
    );
}

#[test]
fn a_ramp_agrees_with_what_explain_and_the_filter_say() {
    let text = ramping(
        "freeze_during: [peak], ramp: {start: 2026-11-25T09:00+05:30, steps: [5, 25, 60], every: 50m}",
    );
    let mesh = mesh(&text);
    let outlook = outlook(&mesh, instant("2026-11-25T08:00+05:30"), 40);
    let canary = mesh
        .services
        .values()
        .next()
        .unwrap()
        .canary
        .as_ref()
        .unwrap();
    let ramp = canary.weight.ramp().unwrap();
    let schedule = ramp.schedule(&canary.freeze_during, &mesh.timetable);
    let steps = outlook
        .changes
        .iter()
        .filter(|change| change.kind == Kind::RampStep);
    let told: Vec<_> = steps
        .map(|change| (instant(&change.at), change.weight))
        .collect();
    let expected: Vec<_> = schedule
        .steps()
        .iter()
        .map(|step| (step.from, Some(step.weight.percent())))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(told.len(), 3);
}

#[test]
fn a_month_has_its_days_with_what_is_on() {
    let text = "\
peak_hours:
  salary: {start: 9, end: 12, monthly: [1, last-business-day], except: holidays}
  night: {start: 22, end: 2, days: [mon], multiplier: 1.5}
festivals:
  - {name: Sale, start: 2026-11-06, end: 2026-11-08}
  - {name: Diwali, date: 2026-11-08, factor: 2, holiday: true, source: by hand}
holidays: [{name: Local, date: 2026-11-30}]
";
    let month = month(&mesh(text), MonthOf::parse("2026-11").unwrap());
    assert_eq!((month.month.as_str(), month.days.len()), ("2026-11", 30));
    let day = |number: usize| &month.days[number - 1];
    let windows = |number: usize| -> Vec<String> {
        let line = |window: &DayWindow| format!("{} {} {}", window.name, window.from, window.until);
        day(number).windows.iter().map(line).collect()
    };
    assert_eq!(
        windows(1),
        ["salary 2026-11-01T09:00:00+05:30 2026-11-01T12:00:00+05:30"]
    );
    // The last Monday is a holiday.
    assert_eq!(
        windows(27),
        ["salary 2026-11-27T09:00:00+05:30 2026-11-27T12:00:00+05:30"]
    );
    assert_eq!(
        windows(30),
        ["night 2026-11-30T22:00:00+05:30 2026-12-01T02:00:00+05:30"],
    );
    assert!(!day(30).business_day && day(27).business_day && !day(28).business_day);
    assert_eq!(day(30).holidays[0].name, "Local");
    assert_eq!((day(8).weekday, day(9).weekday), ("sun", "mon"));
    let names: Vec<&str> = day(8)
        .festivals
        .iter()
        .map(|festival| festival.name.as_str())
        .collect();
    assert_eq!(names, ["Diwali", "Sale"]);
    assert_eq!(day(9).festivals, []);
    assert_eq!(day(8).festivals[0].source.as_deref(), Some("by hand"));
}

#[test]
fn months_have_one_spelling_and_counts_a_range() {
    assert_eq!(
        MonthOf::parse("2026-13").unwrap_err().to_string(),
        "month: \"2026-13\" is no month such as 2026-11 in the years 1900 to 2999"
    );
    for wrong in ["", "2026", "2026-1", "26-11", "2026-11-01", "november"] {
        assert!(MonthOf::parse(wrong).is_err(), "{wrong}");
    }
    let mesh = mesh("{}");
    // Already December in India.
    let december = MonthOf::at(&mesh, instant("2026-11-30T18:30Z"));
    assert_eq!(december, MonthOf::parse("2026-12").unwrap());
    assert_eq!(month(&mesh, december).days.len(), 31);
    assert_eq!(count(None).unwrap(), COUNT);
    assert!(count(Some(0)).is_err() && count(Some(COUNT_MAX + 1)).is_err());
}
