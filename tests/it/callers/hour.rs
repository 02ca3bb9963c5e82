//! What hour it is, and until when.

use anyhow::{Context, Result, ensure};
use harness::{clock::Clock, server::Options};
use serde_json::{Value, json};

use super::{World, selected};

const MESH: &str = "\
mesh: {name: test, region: mumbai}
timezone: Asia/Kolkata
peak_hours:
  morning: {start: 7, end: 11, zone: mumbai-west, multiplier: 1.5}
  evening: {start: 17, end: 22, multiplier: 2}
festivals:
  - {name: Diwali, date: 2026-11-08, factor: 2.5, source: test}
services:
  shop:
    sidecar: false
    endpoints: [{id: shop-1, host: 10.0.0.1, port: 80}]
";

/// State, window, festival, multiplier, factor and until.
fn told(of: &Value) -> String {
    let word = |field: &str| match &of[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    [
        "traffic_state",
        "window",
        "festival",
        "multiplier",
        "festival_factor",
        "until",
    ]
    .map(word)
    .join(" ")
}

fn at(world: &World, query: &str) -> Result<Value> {
    world
        .server
        .api_get(&format!("/api/v1/traffic-state?{query}"))
}

#[test]
fn the_state_of_each_zone_is_told_for_any_instant() -> Result<()> {
    let world = World::start(MESH)?;
    let morning = at(&world, "at=2026-11-04T08:00%2B05:30")?;
    let peak = "peak_hour morning null 1.5 1.0 2026-11-04T11:00:00+05:30";
    let normal = "normal null null 1.0 1.0 2026-11-04T17:00:00+05:30";
    ensure!(morning["timezone"] == "Asia/Kolkata", "{morning}");
    ensure!(morning["at"] == "2026-11-04T08:00:00+05:30", "{morning}");
    // Who has no zone sees all windows.
    ensure!(told(&morning) == peak, "{morning}");
    ensure!(
        morning["zones"].as_array().map(Vec::len) == Some(1),
        "{morning}"
    );
    ensure!(morning["zones"][0]["zone"] == "mumbai-west", "{morning}");
    ensure!(told(&morning["zones"][0]) == peak, "{morning}");
    let elsewhere = at(&world, "at=2026-11-04T08:00%2B05:30&zone=mumbai-central")?;
    ensure!(told(&elsewhere) == normal, "{elsewhere}");
    // A festival outranks a window, and both are told.
    let both = at(&world, "at=2026-11-08T18:30%2B05:30&zone=mumbai-central")?;
    let diwali = "festival evening Diwali 2.0 2.5 2026-11-08T22:00:00+05:30";
    ensure!(told(&both) == diwali, "{both}");
    // The last millisecond before an edge, and the edge.
    let before = at(&world, "at=2026-11-04T16:59:59.999%2B05:30")?;
    ensure!(told(&before) == normal, "{before}");
    let edge = at(&world, "at=2026-11-04T17:00:00%2B05:30")?;
    ensure!(edge["window"] == "evening", "{edge}");
    let service = at(&world, "at=2026-11-04T08:00%2B05:30&service=shop")?;
    ensure!(told(&service["services"][0]) == peak, "{service}");
    for (query, said) in [
        ("at=yesterday", "at:"),
        ("zone=a%20b", "zone:"),
        ("when=now", "known: at, zone, service"),
        ("service=nobody", "not in this mesh"),
    ] {
        let shown = at(&world, query)?;
        let detail = shown["detail"].as_str().context("detail")?;
        ensure!(detail.contains(said), "{query}: {shown}");
    }
    Ok(())
}

#[test]
fn it_follows_the_clock_and_what_somebody_says_of_a_service() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    let set = |at: &str| -> Result<()> {
        let at: jiff::Timestamp = at.parse()?;
        clock.set_now(at.as_millisecond())
    };
    set("2026-11-04T06:59:58+05:30")?;
    let options = Options {
        clock: Some(&clock),
        ..Options::default()
    };
    let world = World::start_with(MESH, &options)?;
    let mut client = world.client();
    let west = json!({"service": "shop", "zone": "mumbai-west"});
    let states = |client: &mut harness::http::Client| -> Result<(String, String)> {
        let state = at(&world, "zone=mumbai-west")?;
        let shown = selected(client, &west)?;
        let text = |value: &Value| value.as_str().map(str::to_string).context("no state");
        Ok((
            text(&state["traffic_state"])?,
            text(&shown["traffic_state"])?,
        ))
    };
    set("2026-11-04T06:00:00+05:30")?;
    ensure!(states(&mut client)? == ("normal".into(), "normal".into()));
    set("2026-11-04T07:00:00+05:30")?;
    ensure!(states(&mut client)? == ("peak_hour".into(), "peak_hour".into()));
    let body = json!({"kind": "normal", "for": "30m", "reason": "quiet"}).to_string();
    let (status, shown) = world
        .server
        .api_post("/api/v1/services/shop/override", body.as_bytes())?;
    ensure!(status == 200, "{status} {shown}");
    let state = at(&world, "")?;
    ensure!(state["traffic_state"] == "peak_hour", "{state}");
    let shop = &state["services"][0];
    ensure!(shop["traffic_state"] == "normal", "{state}");
    ensure!(shop["override"]["kind"] == "normal", "{state}");
    ensure!(shop["until"] == shop["override"]["until"], "{state}");
    ensure!(selected(&mut client, &west)?["traffic_state"] == "normal");
    // It ends by itself.
    set("2026-11-04T07:31:00+05:30")?;
    ensure!(selected(&mut client, &west)?["traffic_state"] == "peak_hour");
    ensure!(at(&world, "")?["services"] == json!([]));
    Ok(())
}
