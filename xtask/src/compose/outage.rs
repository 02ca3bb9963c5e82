//! The server is away for a minute, under load, while a peak begins or ends: no request fails, the edge is honoured, and
//! when it returns a change is applied.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{http::Client, load::Load, wait::wait_for};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    check::{API, GATEWAY},
    project::Project,
};
use crate::{progress::Progress, run};

const AWAY: Duration = Duration::from_secs(60);
/// From the clock's move to the edge: long enough for the server to be stopped before.
const LEAD: Duration = Duration::from_secs(20);
const BOUND: Duration = Duration::from_secs(60);
/// Proxies look at the clock every 50 ms; this machine may be busy.
const LATE_MILLIS: i64 = 1_000;
const USERS: u64 = 2;
/// Bucket 1657 of 10,000: a canary of 10 % does not serve it, one of 25 % does.
const NEXT_USER: (&str, &[u8]) = ("x-user-id", b"user-1");

struct Edge {
    at_millis: i64,
    before: String,
    after: String,
    what: String,
}

pub fn cross_an_edge(project: &Project<'_>, progress: &Progress) -> Result<()> {
    let edge = next_edge()?;
    let lead = i64::try_from(LEAD.as_millis())?;
    project.clock.set_now(edge.at_millis - lead)?;
    let load = Load::start(GATEWAY, USERS, "/orders/7");
    wait_for("users to be served", BOUND, || {
        let sent = load.sent();
        (sent > 100).then_some(()).ok_or_else(|| sent.to_string())
    })?;
    progress.step("Stopping the server for a minute, under load.");
    run::silent(&mut project.compose(&["stop", "controlplane"]))?;
    let began = Instant::now();
    ensure!(api("/healthz").is_err(), "the server still answers");
    let late = honoured(project, &edge)?;
    println!(
        "ok      {} while the server was away: {} until the edge, {} {late} ms after it",
        edge.what, edge.before, edge.after
    );
    wait_for("a minute to be over", AWAY + BOUND, || {
        let since = began.elapsed();
        (since >= AWAY)
            .then_some(())
            .ok_or_else(|| format!("{since:?}"))
    })?;
    ensure!(api("/healthz").is_err(), "the server still answers");
    progress.step("Starting it again.");
    run::silent(&mut project.compose(&["start", "controlplane"]))?;
    change(project)?;
    let report = load.stop();
    ensure!(report.failures.is_empty(), "requests failed: {report:?}");
    println!(
        "ok      {} requests during an outage of {} s: 0 failed; then a change was applied",
        report.sent,
        AWAY.as_secs()
    );
    Ok(())
}

fn api(path: &str) -> Result<Value> {
    Client::new(API).get(path, &[])?.json()
}

/// The next instant at which the state is another one.
fn next_edge() -> Result<Edge> {
    let calendar = api("/api/v1/calendar/next?count=20")?;
    let before = calendar["now"]["traffic_state"].as_str().context("now")?;
    let mut changes = calendar["changes"].as_array().into_iter().flatten();
    let change = changes
        .find(|change| {
            change["traffic_state"]
                .as_str()
                .is_some_and(|state| state != before)
        })
        .with_context(|| format!("no edge in {calendar}"))?;
    let text = |field: &str| change[field].as_str().context("a change without it");
    let at: Timestamp = text("at")?.parse()?;
    Ok(Edge {
        at_millis: at.as_millisecond(),
        before: before.to_owned(),
        after: text("traffic_state")?.to_owned(),
        what: text("sentence")?.to_owned(),
    })
}

/// Asks the gateway until the state has changed: not before the edge, and at most so many milliseconds after it.
fn honoured(project: &Project<'_>, edge: &Edge) -> Result<i64> {
    let now = || project.clock.now_millis();
    ensure!(now()? < edge.at_millis, "the server took too long to stop");
    let mut gateway = Client::new(GATEWAY);
    let mut seen_before = false;
    wait_for("the edge", LEAD + BOUND, || {
        let mut look = || -> Result<Option<i64>> {
            let asked = now()?;
            let answer = gateway.get("/orders/7", &[NEXT_USER])?.json()?;
            let answered = now()?;
            let state = answer["headers"]["x-mumbai-traffic-state"].as_str();
            let state = state.context("no state")?;
            if state == edge.before {
                seen_before = true;
                let late = asked - edge.at_millis;
                ensure!(
                    late < LATE_MILLIS,
                    "{state} is told {late} ms after its end"
                );
                return Ok(None);
            }
            ensure!(state == edge.after, "{state} in place of {}", edge.after);
            let early = edge.at_millis - answered;
            ensure!(early <= 0, "{state} is told {early} ms before it begins");
            Ok(Some(answered - edge.at_millis))
        };
        match look() {
            Ok(None) => Err("not yet".into()),
            Ok(Some(late)) => Ok(Ok((seen_before, late))),
            Err(error) => Ok(Err(error)),
        }
    })?
    .and_then(|(seen_before, late)| {
        ensure!(seen_before, "the edge was over before anybody looked");
        Ok(late)
    })
}

/// Edits the mesh file, and waits until the gateway does as it says.
fn change(project: &Project<'_>) -> Result<()> {
    let text = fs::read_to_string(&project.mesh)?;
    let changed = text.replace("weight: 10", "weight: 25");
    ensure!(changed != text, "no weight to change");
    let beside = project.mesh.with_extension("new");
    fs::write(&beside, changed)?;
    fs::rename(&beside, &project.mesh)?;
    let mut gateway = Client::new(GATEWAY);
    wait_for("the changed canary to serve user-1", BOUND, || {
        let mut version = || -> Result<Value> {
            let answer = gateway.get("/orders/7", &[NEXT_USER])?.json()?;
            Ok(answer["version"].clone())
        };
        match version() {
            Ok(version) if version == "v2" => Ok(()),
            Ok(version) => Err(version.to_string()),
            Err(error) => Err(format!("{error:#}")),
        }
    })
}
