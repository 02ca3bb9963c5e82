//! The calendar on a real Envoy whose clock is moved across its edges: the header changes at that
//! very moment, in every worker, with no configuration pushed in between.

use anyhow::{Context, Result, ensure};
use harness::{clock::Clock, http::Client, wait::wait_for};
use serde_json::{Value, json};

use crate::door1::{BOUND, Door1, filter_config, seen};

/// How far before and after an edge the header is watched.
const AROUND_MILLIS: i64 = 400;

struct Edge {
    what: &'static str,
    at: &'static str,
    before: &'static str,
    after: &'static str,
}

fn edge(what: &'static str, at: &'static str, before: &'static str, after: &'static str) -> Edge {
    Edge {
        what,
        at,
        before,
        after,
    }
}

fn millis(rfc3339: &str) -> Result<i64> {
    let instant: jiff::Timestamp = rfc3339.parse()?;
    Ok(instant.as_millisecond())
}

/// Watches one edge through every connection, again if the machine was too busy for answers on both
/// sides of it. What is answered is judged at every try.
fn watch(edge: &Edge, clock: &Clock, clients: &mut [Client]) -> Result<()> {
    const TRIES: u32 = 10;
    let mut judged = Vec::new();
    for _ in 0..TRIES {
        judged = watch_once(edge, clock, clients)?;
        if judged
            .iter()
            .all(|(before, after)| *before > 0 && *after > 0)
        {
            return Ok(());
        }
    }
    anyhow::bail!("{}: too few answers to judge by: {judged:?}", edge.what)
}

/// Answers judged before and after the edge, by connection. A request that straddles the edge proves
/// nothing and is not judged.
fn watch_once(edge: &Edge, clock: &Clock, clients: &mut [Client]) -> Result<Vec<(u32, u32)>> {
    let at = millis(edge.at)?;
    clock.set_now(at - AROUND_MILLIS)?;
    // A worker learns at its next tick that the clock was moved; the edge itself it sees by itself.
    for client in clients.iter_mut() {
        wait_for("the worker to see that the clock was moved", BOUND, || {
            let answer = client.get("/orders", &[]);
            let state = answer.and_then(|answer| seen(&answer, "x-mumbai-traffic-state"));
            let late = clock.now_millis().map_err(|error| error.to_string())? >= at;
            match state {
                Ok(Some(state)) if late || state == edge.before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
    }
    let mut judged = vec![(0, 0); clients.len()];
    while clock.now_millis()? < at + AROUND_MILLIS {
        for (client, judged) in clients.iter_mut().zip(&mut judged) {
            let began = clock.now_millis()?;
            let answer = client.get("/orders", &[])?;
            let ended = clock.now_millis()?;
            let state = seen(&answer, "x-mumbai-traffic-state")?.context("no state")?;
            let expected = if ended < at {
                judged.0 += 1;
                edge.before
            } else if began >= at {
                judged.1 += 1;
                edge.after
            } else {
                continue;
            };
            ensure!(
                state == expected,
                "{} {}: {state} instead of {expected}, {} ms from the edge",
                edge.what,
                edge.at,
                began - at
            );
        }
    }
    Ok(judged)
}

fn watch_all(calendar: &Value, edges: &[Edge]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    let service = json!({"name": "order-service"});
    let door = Door1::start_at(&filter_config(&service, calendar), Some(&clock))?;
    let mut clients = door.client_per_worker()?;
    for edge in edges {
        watch(edge, &clock, &mut clients)?;
    }
    Ok(())
}

#[test]
fn windows_and_festivals_in_mumbai_begin_and_end_at_their_second() -> Result<()> {
    let calendar = json!({
        "peak_hours": {
            "morning": {"start": 7, "end": 11},
            "evening": {"start": "17:00", "end": "22:00"},
        },
        "festivals": [{"name": "Diwali", "date": "2026-11-08", "factor": 2.0}],
    });
    watch_all(
        &calendar,
        &[
            edge(
                "morning begins",
                "2026-11-24T07:00:00+05:30",
                "normal",
                "peak_hour",
            ),
            edge(
                "morning ends",
                "2026-11-24T11:00:00+05:30",
                "peak_hour",
                "normal",
            ),
            edge(
                "evening begins",
                "2026-11-24T17:00:00+05:30",
                "normal",
                "peak_hour",
            ),
            edge(
                "evening ends",
                "2026-11-24T22:00:00+05:30",
                "peak_hour",
                "normal",
            ),
            edge(
                "Diwali begins",
                "2026-11-08T00:00:00+05:30",
                "normal",
                "festival",
            ),
            edge(
                "Diwali ends",
                "2026-11-09T00:00:00+05:30",
                "festival",
                "normal",
            ),
        ],
    )
}

#[test]
fn windows_in_new_york_follow_the_changes_of_its_clocks() -> Result<()> {
    let calendar = json!({
        "timezone": {"name": "America/New_York", "posix": "EST5EDT,M3.2.0,M11.1.0"},
        "peak_hours": {"night": {"start": "01:30", "end": "02:30"}},
    });
    watch_all(
        &calendar,
        &[
            // The hour from 01:00 to 02:00 comes twice.
            edge(
                "first 01:30",
                "2026-11-01T01:30:00-04:00",
                "normal",
                "peak_hour",
            ),
            edge(
                "clocks go back",
                "2026-11-01T01:00:00-05:00",
                "peak_hour",
                "normal",
            ),
            edge(
                "second 01:30",
                "2026-11-01T01:30:00-05:00",
                "normal",
                "peak_hour",
            ),
            edge("02:30", "2026-11-01T02:30:00-05:00", "peak_hour", "normal"),
            // 02:00 is followed by 03:00.
            edge(
                "01:30 in spring",
                "2027-03-14T01:30:00-05:00",
                "normal",
                "peak_hour",
            ),
            edge(
                "clocks go forward",
                "2027-03-14T03:00:00-04:00",
                "peak_hour",
                "normal",
            ),
        ],
    )
}

/// Salary day: the month's last business day. The month's last day is a Monday, and a holiday.
#[test]
fn a_window_of_the_month_begins_and_ends_at_its_second_and_on_its_day_only() -> Result<()> {
    let calendar = json!({
        "peak_hours": {
            "salary": {"start": 9, "end": 12, "monthly": [1, "last-business-day"], "except": "holidays"},
        },
        "holidays": [{"name": "Local", "date": "2026-11-30"}, "2027-01-01"],
    });
    watch_all(
        &calendar,
        &[
            edge(
                "the last business day begins",
                "2026-11-27T09:00:00+05:30",
                "normal",
                "peak_hour",
            ),
            edge(
                "it ends",
                "2026-11-27T12:00:00+05:30",
                "peak_hour",
                "normal",
            ),
            edge(
                "the holiday after it",
                "2026-11-30T09:00:00+05:30",
                "normal",
                "normal",
            ),
            edge(
                "the first of the next month",
                "2026-12-01T09:00:00+05:30",
                "normal",
                "peak_hour",
            ),
            edge(
                "a first that is a holiday",
                "2027-01-01T09:00:00+05:30",
                "normal",
                "normal",
            ),
        ],
    )
}

/// Metrics are read when nobody calls, too.
#[test]
fn the_metrics_follow_the_calendar_without_a_request() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    let calendar = json!({
        "region": "mumbai",
        "peak_hours": {"morning": {"start": 7, "end": 11, "zone": "mumbai-west", "multiplier": 1.5}},
        "festivals": [{"name": "Diwali", "date": "2026-11-08", "factor": 2.0}],
    });
    clock.set_now(millis("2026-11-24T06:00:00+05:30")?)?;
    let service = json!({"name": "order-service"});
    let door = Door1::start_at(&filter_config(&service, &calendar), Some(&clock))?;
    let moments = [
        ("2026-11-24T06:30:00+05:30", "normal", 100, 100),
        ("2026-11-24T07:00:00+05:30", "peak_hour", 150, 100),
        ("2026-11-24T11:00:00+05:30", "normal", 100, 100),
        ("2026-11-08T00:00:00+05:30", "festival", 100, 200),
        ("2026-11-08T08:00:00+05:30", "festival", 150, 200),
    ];
    for (at, state, multiplier, factor) in moments {
        clock.set_now(millis(at)?)?;
        let expected = [
            format!("mumbai_traffic_state{{state=\"{state}\"}} 1"),
            format!("mumbai_peak_hour_multiplier_percent{{zone=\"west\"}} {multiplier}"),
            format!("mumbai_festival_traffic_factor_percent{{}} {factor}"),
        ];
        wait_for(at, BOUND, || {
            let page = door.envoy.prometheus().map_err(|error| error.to_string())?;
            let ours = page.lines().filter(|line| line.starts_with("mumbai_"));
            let ours: Vec<_> = ours.collect();
            let set = ours
                .iter()
                .filter(|line| line.starts_with("mumbai_traffic_state") && line.ends_with(" 1"));
            let told = expected.iter().all(|line| ours.contains(&line.as_str()));
            if told && set.count() == 1 {
                Ok(())
            } else {
                Err(format!("expected {expected:?}, found {ours:#?}"))
            }
        })?;
    }
    Ok(())
}
